//! Suites of forwarding once more, where another forwarder takes over after every step: what is not carried, or carried wrongly, is
//! seen as what it breaks. Packets for retransmission are left behind, and so are the suites about them.

mod forward_call;

#[path = "forward_layers.rs"]
mod layers;
#[path = "forward_rewrite.rs"]
mod rewrite;
#[path = "forward_ssrc_rewriting.rs"]
mod ssrc_rewriting;
