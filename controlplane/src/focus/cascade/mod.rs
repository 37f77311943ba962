//! A conference on several bridges: which bridge is linked to which, and what each is to learn of who is on the others
//! (docs/protocol/focus.md 11.6).
//!
//! Bridges are nodes, relays are links. Within a mesh every node is linked to every other one, and packets go one hop; a node
//! that is in two meshes passes on from one to the other. Meshes form a tree: nobody is reached in two ways.

mod graph;
mod request;
#[cfg(test)]
mod tests;

pub(super) use graph::{Cascade, LinkId, MeshId, NodeId, Place, What};
pub(super) use request::{Form, transport_in};
