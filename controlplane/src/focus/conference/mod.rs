//! One conference of the focus: its room, its members, and their sessions on a bridge. Its methods take what all conferences
//! share as a [`Context`](super::context::Context).

mod check;
mod component_messages;
mod former;
mod ice_restart;
mod jingle;
mod meeting_id;
mod member;
mod metadata;
mod moderation;
mod mute;
mod nodes;
mod notices;
mod offer;
mod outcome;
mod relays;
mod relief;
mod reply;
mod returning;
mod room;
mod senders;
mod session;
mod source_signaling;
mod sources;
mod state;
mod visitor_rooms;
mod visitors;

pub(super) use member::Helper;
pub(super) use relief::Relief;
pub(super) use reply::{NICK, Reply, conference_answer};
pub(super) use returning::orphans;
pub(super) use state::{Conference, Options, Waits};
pub(super) use visitors::{not_live, visitor_wish};
