//! Configuration files of Jitsi Videobridge (`jvb.conf`) and of Jicofo (`jicofo.conf`) as ours: which of their keys is which of
//! ours, and why the others change nothing (docs/protocol/bridge.md 12, docs/migrate.md).

mod jicofo;
mod lookup;
mod uses;
mod videobridge;

pub(super) use lookup::{Product, find, is_secret};
pub(super) use uses::Use;
