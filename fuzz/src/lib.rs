//! The fuzz targets of ringbridge: what each is fed and what must hold is said at the head of its file. The engine calls
//! them through `fuzz_targets/`; `controlplane/tests/fuzz_seeds` runs the same functions over the seeds. See docs/fuzzing.md.

#![forbid(unsafe_code)]

pub mod capture;
pub mod channel;
pub mod colibri;
pub mod conference_request;
pub mod config;
pub mod dtls;
mod edits;
pub mod focus;
pub mod forwarder;
pub mod handover;
pub mod handover_bridge;
pub mod handover_media;
pub mod ice;
pub mod input;
pub mod parsers;
pub mod public_address;
pub mod relay;
mod scratch;
pub mod sctp;
pub mod services;
pub mod sink;
pub mod stun;
pub mod visitors;
pub mod xml;
pub mod xmpp;

/// The load generator's readers alone: the whole of it would bring in another WebRTC stack.
#[allow(dead_code, missing_docs)]
#[path = "../../bench/src/media/mod.rs"]
mod bench_media;
/// The world of the data plane's own tests of relays.
#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../../dataplane/tests/faulty_relay/mod.rs"]
mod faulty_relay;
#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../../dataplane/tests/forward_call/mod.rs"]
mod forward_call;
/// The world of the data plane's own tests of states.
#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../../dataplane/tests/forward_handover/meeting.rs"]
mod meeting;
#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../../dataplane/tests/relay_call/mod.rs"]
mod relay_call;
/// The world of the focus's own tests.
#[allow(dead_code)]
#[path = "../../controlplane/tests/focus_world/mod.rs"]
mod focus_world;
