//! A new process that finds out by itself that it cannot take over, before it knows how it would.

use super::message::{Message, bounded};
use super::wire::{Wire, inherited};

/// Informs the process that started this one, if it is an upgrade's, why it does not take over.
pub async fn refuse(why: String) {
    if let Ok(Some(wire)) = inherited() {
        refuse_over(&wire, why).await;
    }
}

/// The same over a socket that is open already.
pub async fn refuse_over(wire: &Wire, why: String) {
    // Whoever does not listen any more has given up already.
    let _ = wire.send(&Message::Refused(bounded(why))).await;
}
