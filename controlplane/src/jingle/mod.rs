//! The Jingle elements between focus and client (docs/protocol/focus.md 5), on top of those that colibri2 shares.
//!
//! Parsing is lenient: unknown attributes and children are ignored.

mod elements;
pub mod ns;
mod sources;
#[cfg(test)]
mod tests;

pub use elements::{
    BridgeSession, Content, Description, Group, GroupContent, IceState, Jingle, JingleGroup, JingleSource, JsonMessage,
    Reason, SctpMap, SsrcInfo, StartMuted, Transport,
};
pub use sources::{InvalidSsrc, OwnedGroup, OwnedSource, SourceSet, json_sources, xml_sources};
