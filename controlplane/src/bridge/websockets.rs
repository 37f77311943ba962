//! The clients' open WebSockets: which connection of an endpoint counts, and what waits for one that reads slowly.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use crate::channel::{BridgeMessage, ChannelOut};

/// Messages that may wait for a client beyond its socket's own queue; one that reads slower is cut off.
const BACKLOG: usize = 1000;
/// Wait before they are tried again.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// The client is gone, or reads too slowly.
#[derive(Debug, PartialEq)]
pub(super) struct CutOff;

struct WebSocket {
    connection: u64,
    sender: Sender<ChannelOut>,
    waiting: VecDeque<ChannelOut>,
}

impl WebSocket {
    /// Passes on what waits, in order.
    fn flush(&mut self) -> Result<(), CutOff> {
        while let Some(message) = self.waiting.pop_front() {
            match self.sender.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    self.waiting.push_front(message);
                    return if self.waiting.len() > BACKLOG { Err(CutOff) } else { Ok(()) };
                }
                // The server reports the end of the connection itself.
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
        Ok(())
    }
}

/// One per endpoint at most.
#[derive(Default)]
pub(super) struct WebSockets {
    open: HashMap<EndpointId, WebSocket>,
    /// Messages received and sent since the start.
    pub received: u64,
    pub sent: u64,
}

impl WebSockets {
    /// A client connected. Dropping the former sender closes the former socket.
    pub fn insert(&mut self, endpoint: EndpointId, connection: u64, sender: Sender<ChannelOut>) {
        self.open.insert(endpoint, WebSocket { connection, sender, waiting: VecDeque::new() });
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
            let _ = socket.sender.try_send(ChannelOut::Close);
        }
    }

    /// Closes all.
    pub fn close_all(&mut self) {
        for (_, socket) in self.open.drain() {
            let _ = socket.sender.try_send(ChannelOut::Close);
        }
    }

    /// Sends a message, or lets it wait; a client that does not read is forgotten.
    pub fn send(&mut self, endpoint: EndpointId, message: BridgeMessage) -> Result<(), CutOff> {
        let Some(socket) = self.open.get_mut(&endpoint) else { return Ok(()) };
        socket.waiting.push_back(ChannelOut::Message(message));
        self.sent += 1;
        let sent = socket.flush();
        if sent.is_err() {
            self.open.remove(&endpoint);
        }
        sent
    }

    /// Whether something waits, and wants [`WebSockets::flush`] after [`RETRY`].
    pub fn backlog(&self) -> bool {
        self.open.values().any(|socket| !socket.waiting.is_empty())
    }

    /// Passes on what waits. Returns those that were forgotten since they do not read.
    pub fn flush(&mut self) -> Vec<EndpointId> {
        self.open.extract_if(|_, socket| socket.flush().is_err()).map(|(endpoint, _)| endpoint).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const A: EndpointId = EndpointId(1);

    #[test]
    fn a_new_connection_takes_the_place_of_the_old_one() {
        let mut sockets = WebSockets::default();
        let (old, mut first) = mpsc::channel(1);
        let (new, mut second) = mpsc::channel(1);
        sockets.insert(A, 1, old);
        assert!(sockets.receive(A, 1));
        sockets.insert(A, 2, new);
        assert_eq!(first.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert!(!sockets.receive(A, 1) && !sockets.remove(A, 1), "the old one has no say");
        assert!(sockets.receive(A, 2));
        assert_eq!(sockets.received, 2);
        sockets.close(A);
        assert_eq!(second.try_recv(), Ok(ChannelOut::Close));
        assert!(!sockets.remove(A, 2));
    }

    #[test]
    fn messages_wait_in_order_until_there_are_too_many() {
        let mut sockets = WebSockets::default();
        let (sender, mut client) = mpsc::channel(1);
        sockets.insert(A, 1, sender);
        let message = |n: usize| BridgeMessage::ForwardedSources { forwarded_sources: vec![n.to_string()] };
        for n in 0..3 {
            assert_eq!(sockets.send(A, message(n)), Ok(()));
        }
        for n in 0..3 {
            assert_eq!(client.try_recv(), Ok(ChannelOut::Message(message(n))));
            assert_eq!(sockets.backlog(), n < 2);
            assert_eq!(sockets.flush(), []);
        }
        let cut = (0..BACKLOG + 10).find(|n| sockets.send(A, message(*n)).is_err());
        assert_eq!(cut, Some(BACKLOG + 1), "one is in the socket's queue");
        assert_eq!(client.try_recv(), Ok(ChannelOut::Message(message(0))));
        assert_eq!(client.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(sockets.send(A, message(0)), Ok(()), "nobody is there any more");
    }
}
