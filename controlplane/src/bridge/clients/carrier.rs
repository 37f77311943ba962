//! What carries a bridge channel: a WebSocket, an SCTP data channel, or both.

use axum::extract::ws::Utf8Bytes;

use crate::bridge::dtls_transport::Written;
use crate::channel::{ChannelCounters, Counted, Outbox, Refused};

/// What carries an endpoint's bridge channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The colibri WebSocket.
    WebSocket,
    /// The SCTP data channel.
    Data,
}

/// The connection that counts; a later one of the same endpoint replaces it.
#[derive(Debug)]
struct WebSocket {
    connection: u64,
    sender: Outbox,
}

/// Which carriers of one endpoint are open, and which one is used. At its end it closes the WebSocket as that of an expired
/// endpoint.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    websocket: Option<WebSocket>,
    data: bool,
    /// The one that the client used last.
    last: Option<Carrier>,
}

impl Carriers {
    pub(super) fn is_open(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::WebSocket => self.websocket.is_some(),
            Carrier::Data => self.data,
        }
    }

    /// The client connected. Dropping the former sender closes the former socket.
    pub(super) fn open_websocket(&mut self, connection: u64, sender: Outbox) {
        self.websocket = Some(WebSocket { connection, sender });
        self.last = Some(Carrier::WebSocket);
    }

    /// Whether a connection is the one that counts.
    pub(super) fn is_current(&self, connection: u64) -> bool {
        self.websocket.as_ref().is_some_and(|socket| socket.connection == connection)
    }

    /// The connection has ended, or is given up.
    pub(super) fn forget_websocket(&mut self) {
        self.websocket = None;
    }

    /// Writes a message to the WebSocket, and counts it where that fails; one `of_others` gives way first. A peer that does not
    /// even read what is not of others loses its connection.
    pub(super) fn write(&mut self, text: Utf8Bytes, of_others: bool, counters: &ChannelCounters) -> Written {
        let Some(socket) = &self.websocket else { return Written::NotSent };
        match socket.sender.send(text, of_others) {
            Ok(()) => Written::Sent,
            Err(Refused::Full) if !of_others => {
                counters.count(Counted::Stalled);
                self.forget_websocket();
                Written::Stalled
            }
            Err(Refused::OfOthers | Refused::Full) => {
                counters.count(Counted::Unread);
                Written::GaveWay
            }
            // The end of the connection is on its way to us.
            Err(Refused::Closed) => Written::NotSent,
        }
    }

    /// The data channel opened or closed.
    pub(super) fn set_data(&mut self, open: bool) {
        self.data = open;
        if open {
            self.last = Some(Carrier::Data);
        }
    }

    /// The client said something over one of them.
    pub(super) fn set_last(&mut self, carrier: Carrier) {
        self.last = Some(carrier);
    }

    /// The one that the client used last; if that is closed, the other (section 5.2).
    pub(super) fn current(&self) -> Option<Carrier> {
        let open = |carrier: &Carrier| self.is_open(*carrier);
        self.last.into_iter().chain([Carrier::WebSocket, Carrier::Data]).find(open)
    }
}

impl Drop for Carriers {
    fn drop(&mut self) {
        if let Some(socket) = self.websocket.take() {
            socket.sender.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::outbox;

    #[test]
    fn the_carrier_that_was_used_last_is_used() {
        let mut carriers = Carriers::default();
        assert_eq!(carriers.current(), None);
        carriers.open_websocket(1, outbox().0);
        carriers.set_data(true);
        assert_eq!(carriers.current(), Some(Carrier::Data));
        carriers.set_last(Carrier::WebSocket);
        assert_eq!(carriers.current(), Some(Carrier::WebSocket));
        carriers.forget_websocket();
        assert_eq!(carriers.current(), Some(Carrier::Data));
        carriers.set_data(false);
        assert_eq!(carriers.current(), None);
    }
}
