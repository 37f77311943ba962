//! What carries a bridge channel: a WebSocket, an SCTP data channel, or both.

/// What carries an endpoint's bridge channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The colibri WebSocket.
    WebSocket,
    /// The SCTP data channel.
    Data,
}

/// Which carriers are open, and which one is used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Channels {
    pub(super) websocket: bool,
    pub(super) data: bool,
    /// The one that the client used last.
    pub(super) last: Option<Carrier>,
}

impl Channels {
    fn is_open(self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::WebSocket => self.websocket,
            Carrier::Data => self.data,
        }
    }

    pub(super) fn set(&mut self, carrier: Carrier, open: bool) {
        match carrier {
            Carrier::WebSocket => self.websocket = open,
            Carrier::Data => self.data = open,
        }
        if open {
            self.last = Some(carrier);
        }
    }

    /// The one that the client used last; if that is closed, the other (section 5.2).
    pub(super) fn current(self) -> Option<Carrier> {
        let open = |carrier: &Carrier| self.is_open(*carrier);
        self.last.into_iter().chain([Carrier::WebSocket, Carrier::Data]).find(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_that_was_used_last_is_used() {
        let mut channels = Channels::default();
        assert_eq!(channels.current(), None);
        channels.set(Carrier::WebSocket, true);
        channels.set(Carrier::Data, true);
        assert_eq!(channels.current(), Some(Carrier::Data));
        channels.last = Some(Carrier::WebSocket);
        assert_eq!(channels.current(), Some(Carrier::WebSocket));
        channels.set(Carrier::WebSocket, false);
        assert_eq!(channels.current(), Some(Carrier::Data));
        channels.set(Carrier::Data, false);
        assert_eq!(channels.current(), None);
    }
}
