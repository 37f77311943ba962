//! What waits for one client's WebSocket, bounded in bytes. A message to many is one text that all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::mpsc;

use super::limits::{MESSAGE_OVERHEAD, QUEUED, QUEUED_OF_OTHERS};

/// What goes to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelOut {
    /// A message.
    Text(Utf8Bytes),
    /// The endpoint is gone: close with 1001.
    Close,
}

impl ChannelOut {
    fn cost(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + MESSAGE_OVERHEAD,
            Self::Close => 0,
        }
    }
}

/// Why a message does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too much waits for another client's message to be added.
    OfOthers,
    /// Too much waits for the bridge's own: the client does not read.
    Full,
    /// The connection has ended.
    Closed,
}

/// Where messages to one client go.
#[derive(Debug)]
pub struct Outbox {
    sender: mpsc::UnboundedSender<ChannelOut>,
    waiting: Arc<AtomicUsize>,
}

/// Where they are taken out.
#[derive(Debug)]
pub struct Outgoing {
    receiver: mpsc::UnboundedReceiver<ChannelOut>,
    waiting: Arc<AtomicUsize>,
}

/// A new queue: the end that writes, and the end that sends.
pub fn outbox() -> (Outbox, Outgoing) {
    // Bounded by what is counted, not by the channel.
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Outbox { sender, waiting: Arc::clone(&waiting) }, Outgoing { receiver, waiting })
}

impl Outbox {
    /// Queues a message; one `of_others` gives way first.
    pub fn send(&self, text: Utf8Bytes, of_others: bool) -> Result<(), Refused> {
        let out = ChannelOut::Text(text);
        let cost = out.cost();
        let waiting = self.waiting.load(Ordering::Relaxed) + cost;
        if waiting > QUEUED {
            return Err(Refused::Full);
        }
        if of_others && waiting > QUEUED_OF_OTHERS {
            return Err(Refused::OfOthers);
        }
        self.waiting.fetch_add(cost, Ordering::Relaxed);
        self.sender.send(out).map_err(|_| Refused::Closed)
    }

    /// Closes the connection behind what waits.
    pub fn close(&self) {
        let _ = self.sender.send(ChannelOut::Close);
    }
}

impl Outgoing {
    /// The next one; `None` when the outbox is gone.
    pub async fn recv(&mut self) -> Option<ChannelOut> {
        let out = self.receiver.recv().await?;
        self.waiting.fetch_sub(out.cost(), Ordering::Relaxed);
        Some(out)
    }

    /// The next one that is there.
    pub fn try_recv(&mut self) -> Result<ChannelOut, mpsc::error::TryRecvError> {
        let out = self.receiver.try_recv()?;
        self.waiting.fetch_sub(out.cost(), Ordering::Relaxed);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_others_give_way_before_our_own() {
        let (outbox, mut outgoing) = outbox();
        let text = Utf8Bytes::from("x".repeat(64 * 1024 - MESSAGE_OVERHEAD));
        let sent = |of_others| (0..100).take_while(|_| outbox.send(text.clone(), of_others).is_ok()).count();
        assert_eq!(sent(true), QUEUED_OF_OTHERS / (64 * 1024));
        assert_eq!(outbox.send(text.clone(), true), Err(Refused::OfOthers));
        assert_eq!(sent(false), (QUEUED - QUEUED_OF_OTHERS) / (64 * 1024));
        assert_eq!(outbox.send("x".into(), false), Err(Refused::Full));
        let mut taken = 0;
        while let Ok(ChannelOut::Text(text)) = outgoing.try_recv() {
            taken += text.len() + MESSAGE_OVERHEAD;
        }
        assert_eq!((taken, outgoing.waiting.load(Ordering::Relaxed)), (QUEUED, 0));
        // Small ones are counted with what they cost.
        let small = (0..1_000_000).take_while(|_| outbox.send("{}".into(), false).is_ok()).count();
        assert!(small < 5_000, "{small}");
        drop(outgoing);
        let (outbox, outgoing) = super::outbox();
        drop(outgoing);
        assert_eq!(outbox.send("{}".into(), true), Err(Refused::Closed));
    }
}
