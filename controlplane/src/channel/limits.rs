//! How much one client may ask of the bridge over its channel, whatever carries it. All bounds of the channel are here.

use std::time::{Duration, Instant};

use crate::pace::{Bucket, Rate};

/// Largest message of a client, bytes; a longer one closes a WebSocket with 1009, and is left out of a data channel. Also the
/// largest that another bridge is sent over a WebSocket: Jitsi Videobridge takes no larger ones.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Deepest nesting of objects and arrays in a message.
pub const MAX_DEPTH: usize = 100;
/// Names in one list, and entries in one map, of a message; those beyond are left out.
pub const MAX_NAMES: usize = 500;
/// Bytes that may wait for a client before messages of other clients are left out for it.
pub const QUEUED_OF_OTHERS: usize = 256 * 1024;
/// Bytes that may wait for a client before its channel is closed: it does not read.
pub const QUEUED: usize = 1024 * 1024;
/// What a message that waits costs beside its text, bytes.
pub const MESSAGE_OVERHEAD: usize = 256;

/// Messages of one client: per second, and at once.
const MESSAGES: Rate = Rate { burst: 1_000, per_second: 200.0 };
/// Bytes of one client's messages.
const BYTES: Rate = Rate { burst: 1024 * 1024, per_second: 131_072.0 };
/// Bytes that other clients get of one client's messages, each copy counted.
pub const FAN_OUT: Rate = Rate { burst: 32 * 1024 * 1024, per_second: 4_194_304.0 };
/// WebSockets that one endpoint, or another bridge, opens.
pub const CONNECTS: Rate = Rate { burst: 20, per_second: 1.0 };
/// Datagrams of DTLS from one endpoint.
pub const DATAGRAMS: Rate = Rate { burst: 4_000, per_second: 2_000.0 };
/// SCTP associations, and data channels, that one endpoint begins.
pub const ASSOCIATIONS: Rate = Rate { burst: 20, per_second: 1.0 };
/// Chunks of SCTP from one endpoint; an acknowledgement is one.
pub const CHUNKS: Rate = Rate { burst: 4_000, per_second: 2_000.0 };
/// Bytes kept of SCTP packets beside their content while messages of an endpoint are not whole; then it starts anew.
pub const MAX_HELD_OVERHEAD: usize = 4 * 1024 * 1024;
/// Small pieces of such messages.
pub const MAX_HELD_SMALL: usize = 2_000;

/// Messages of another bridge, which speaks for all its clients.
const MESSAGES_OF_RELAY: Rate = Rate { burst: 10_000, per_second: 2_000.0 };
/// Bytes of its messages.
const BYTES_OF_RELAY: Rate = Rate { burst: 16 * 1024 * 1024, per_second: 4_194_304.0 };
/// Bytes that clients and further bridges get of its messages, each copy counted.
pub const FAN_OUT_OF_RELAY: Rate = Rate { burst: 256 * 1024 * 1024, per_second: 33_554_432.0 };

/// What one client still may say.
#[derive(Debug, Clone, Copy)]
pub struct Intake {
    messages: Bucket,
    bytes: Bucket,
}

impl Default for Intake {
    fn default() -> Self {
        Self { messages: Bucket::new(MESSAGES), bytes: Bucket::new(BYTES) }
    }
}

impl Intake {
    /// Of another bridge.
    pub fn of_relay() -> Self {
        Self { messages: Bucket::new(MESSAGES_OF_RELAY), bytes: Bucket::new(BYTES_OF_RELAY) }
    }

    /// Counts so much work (1 is a plain message) and so many bytes; how long the client should not be heard then.
    pub fn charge(&mut self, now: Instant, work: usize, bytes: usize) -> Duration {
        self.messages.charge(now, work).max(self.bytes.charge(now, bytes))
    }

    /// Counts a message of a client that cannot be kept waiting; false when it is to be left out.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.messages.take(now, 1) && self.bytes.take(now, bytes)
    }
}

/// Whether objects and arrays are nested no deeper than [`MAX_DEPTH`]; one pass, whatever the text is.
pub fn is_shallow(text: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn who_says_too_much_waits_in_proportion() {
        let start = Instant::now();
        let mut intake = Intake::default();
        for _ in 0..1_000 {
            assert_eq!(intake.charge(start, 1, 100), Duration::ZERO);
        }
        assert_eq!(intake.charge(start, 2, 100), seconds(0.01));
        // 12 MB in messages of 64 kB: a minute and a half.
        let mut intake = Intake::default();
        let wait = (0..183).map(|_| intake.charge(start, 1, MAX_MESSAGE)).last().expect("some");
        assert!(wait > seconds(80.0) && wait < seconds(90.0), "{wait:?}");
        // Remote control sends a message for each movement of the mouse.
        let mut intake = Intake::default();
        for n in 0..10_000 {
            assert_eq!(intake.charge(start + Duration::from_millis(8) * n, 1, 200), Duration::ZERO);
        }
    }

    #[test]
    fn depth_is_what_a_parser_would_see() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_shallow(nested(MAX_DEPTH).as_bytes()) && !is_shallow(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!is_shallow("{\"a\":".repeat(MAX_DEPTH + 1).as_bytes()));
        let flat = format!("[{}]", vec!["[],{}"; 1000].join(","));
        assert!(is_shallow(flat.as_bytes()));
        let quoted = format!(r#"{{"a\"":"{}\\\"{}"}}"#, "[".repeat(1000), "{".repeat(1000));
        assert!(is_shallow(quoted.as_bytes()));
        assert!(is_shallow(b"]]]]}}}}") && is_shallow(b"") && is_shallow(&[0xff; 100]));
    }
}
