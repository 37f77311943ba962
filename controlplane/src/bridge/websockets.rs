//! The clients' open WebSockets: which connection of an endpoint counts.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use ringbridge_dataplane::ids::EndpointId;

use crate::channel::{ChannelCounters, Counted, Outbox, Refused};

/// The client reads too slowly for what it has to know.
#[derive(Debug, PartialEq)]
pub(super) struct CutOff;

struct WebSocket {
    connection: u64,
    sender: Outbox,
}

/// One per endpoint at most.
#[derive(Default)]
pub(super) struct WebSockets {
    open: HashMap<EndpointId, WebSocket>,
    counters: Arc<ChannelCounters>,
    /// Messages received and sent since the start.
    pub received: u64,
    pub sent: u64,
}

impl WebSockets {
    /// None yet.
    pub fn new(counters: Arc<ChannelCounters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// A client connected. Dropping the former sender closes the former socket.
    pub fn insert(&mut self, endpoint: EndpointId, connection: u64, sender: Outbox) {
        self.open.insert(endpoint, WebSocket { connection, sender });
    }

    /// Counts a message; false when it came over a connection that was replaced.
    pub fn receive(&mut self, endpoint: EndpointId, connection: u64) -> bool {
        let current = self.open.get(&endpoint).is_some_and(|socket| socket.connection == connection);
        self.received += u64::from(current);
        current
    }

    /// The connection ended; false when it was replaced before.
    pub fn remove(&mut self, endpoint: EndpointId, connection: u64) -> bool {
        let current = self.open.get(&endpoint).is_some_and(|socket| socket.connection == connection);
        if current {
            self.open.remove(&endpoint);
        }
        current
    }

    /// Endpoints that have one.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Closes what the endpoint has.
    pub fn close(&mut self, endpoint: EndpointId) {
        if let Some(socket) = self.open.remove(&endpoint) {
            socket.sender.close();
        }
    }

    /// Closes all.
    pub fn close_all(&mut self) {
        for (_, socket) in self.open.drain() {
            socket.sender.close();
        }
    }

    /// Sends a message. One `of_others` is left out for a client that reads slowly; a client that does not even read
    /// what the bridge has to say is forgotten.
    pub fn send(&mut self, endpoint: EndpointId, text: Utf8Bytes, of_others: bool) -> Result<(), CutOff> {
        let Some(socket) = self.open.get(&endpoint) else { return Ok(()) };
        match socket.sender.send(text, of_others) {
            Ok(()) => self.sent += 1,
            Err(Refused::OfOthers) => self.counters.count(Counted::Unread),
            Err(Refused::Full) if of_others => self.counters.count(Counted::Unread),
            Err(Refused::Full) => {
                self.counters.count(Counted::Stalled);
                self.open.remove(&endpoint);
                return Err(CutOff);
            }
            // The server reports the end of the connection itself.
            Err(Refused::Closed) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;
    use crate::channel::limits::{QUEUED, QUEUED_OF_OTHERS};
    use crate::channel::{ChannelOut, outbox};

    const A: EndpointId = EndpointId(1);

    #[test]
    fn a_new_connection_takes_the_place_of_the_old_one() {
        let mut sockets = WebSockets::default();
        let (old, mut first) = outbox();
        let (new, mut second) = outbox();
        sockets.insert(A, 1, old);
        assert!(sockets.receive(A, 1));
        sockets.insert(A, 2, new);
        assert_eq!(first.try_recv(), Err(TryRecvError::Disconnected));
        assert!(!sockets.receive(A, 1) && !sockets.remove(A, 1), "the old one has no say");
        assert!(sockets.receive(A, 2));
        assert_eq!(sockets.received, 2);
        sockets.close(A);
        assert_eq!(second.try_recv(), Ok(ChannelOut::Close));
        assert!(!sockets.remove(A, 2));
    }

    #[test]
    fn a_client_that_does_not_read_loses_others_first_then_its_connection() {
        let mut sockets = WebSockets::default();
        let (sender, mut client) = outbox();
        sockets.insert(A, 1, sender);
        let big = Utf8Bytes::from("x".repeat(60_000));
        for _ in 0..1_000 {
            assert_eq!(sockets.send(A, big.clone(), true), Ok(()));
        }
        assert!(sockets.sent as usize <= QUEUED_OF_OTHERS / big.len());
        assert_eq!(sockets.send(A, "ours".into(), false), Ok(()), "what the bridge says still finds room");
        let kept = sockets.sent as usize;
        let cut = (0..1_000).find(|_| sockets.send(A, big.clone(), false).is_err()).expect("cut off in the end");
        // All but one of them are big.
        assert!((kept + cut - 1) * big.len() <= QUEUED);
        assert_eq!(sockets.send(A, big.clone(), false), Ok(()), "nobody is there any more");
        let mut received = 0;
        while client.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!((received, client.try_recv()), (kept + cut, Err(TryRecvError::Disconnected)));
    }
}
