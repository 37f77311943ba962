//! Orders to scripted participants while they take part: one JSON object per line on standard input.

use std::io::BufRead;

use serde::Deserialize;
use tokio::sync::broadcast;

/// Orders that may wait for a participant.
const QUEUE: usize = 64;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Order {
    /// The participant by its number from 0; without it all of them.
    pub participant: Option<usize>,
    /// The action.
    #[serde(rename = "do")]
    pub what: What,
}

/// What a participant is ordered to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Print what it saw as one line, and count gaps and losses anew.
    Report,
    /// Stop sending, and say so in presence.
    Mute,
    /// Send again.
    Unmute,
    /// Go on from another port, as behind a NAT that forgot its mapping.
    Move,
    /// Open the bridge channel anew.
    Reconnect,
    /// Leave and report.
    Leave,
}

/// Reads orders until the input ends; what is no order is reported on standard error.
pub fn read() -> broadcast::Sender<Order> {
    let (sender, _) = broadcast::channel(QUEUE);
    let orders = sender.clone();
    // A thread of its own: a read of standard input cannot be given up.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            match serde_json::from_str::<Order>(&line) {
                // Nobody may be there any more.
                Ok(order) => drop(orders.send(order)),
                Err(error) => tracing::warn!(%error, %line, "not an order"),
            }
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_one_and_to_all() {
        let order = |text| serde_json::from_str::<Order>(text).ok();
        assert_eq!(order(r#"{"do":"move","participant":2}"#), Some(Order { participant: Some(2), what: What::Move }));
        assert_eq!(order(r#"{"do":"report"}"#), Some(Order { participant: None, what: What::Report }));
        assert_eq!(order(r#"{"do":"dance"}"#), None);
    }
}
