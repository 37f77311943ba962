//! What the WebSocket server counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $metric:literal;)*) => {
        /// Counters of all channels of a bridge; read without a lock.
        #[derive(Debug, Default)]
        pub struct ChannelCounters { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl ChannelCounters {
            /// Name of the metric (with its label, if any) and value of each counter.
            pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($metric, self.$name.load(Ordering::Relaxed)),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Sockets opened.
    opened = "colibri_web_sockets_opened";
    /// Sockets closed by the other side, or replaced, or with their endpoint.
    closed = "colibri_web_sockets_closed";
    /// Text frames received.
    received = "colibri_web_socket_messages_received";
    /// Text frames sent.
    sent = "colibri_web_socket_messages_sent";
    /// Requests for another path.
    rejected_path = r#"colibri_web_sockets_rejected{reason="path"}"#;
    /// Requests for another bridge.
    rejected_server_id = r#"colibri_web_sockets_rejected{reason="server_id"}"#;
    /// Requests for an unknown conference or endpoint, or with a wrong password.
    rejected_authentication = r#"colibri_web_sockets_rejected{reason="authentication"}"#;
    /// Messages that do not parse.
    dropped_malformed = r#"colibri_web_socket_messages_dropped{reason="malformed"}"#;
    /// Messages of an unknown class.
    dropped_unknown_class = r#"colibri_web_socket_messages_dropped{reason="unknown_class"}"#;
    /// Binary frames.
    dropped_binary = r#"colibri_web_socket_messages_dropped{reason="binary"}"#;
    /// Messages larger than the limit; the socket is closed with 1009.
    dropped_oversized = r#"colibri_web_socket_messages_dropped{reason="oversized"}"#;
    /// Sockets closed because nothing was heard for too long.
    idle = "colibri_web_sockets_idle";
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
