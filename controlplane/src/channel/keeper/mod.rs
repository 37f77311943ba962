//! Data channels of a bridge that another process goes on with (docs/upgrade.md). A DTLS session and an SCTP association cannot be
//! written down, so the former process stays as their end, the *keeper*: it has nothing but these, and a socket to the bridge, over
//! which datagrams and messages pass. The bridge's end of each is a [`KeptChannel`].
//!
//! Both ends may be of other releases, and neither believes what the other says: a frame that cannot be ends the connection, which to
//! the bridge is the loss of those channels, and to the keeper its end.

mod frame;
mod line;
mod machine;
mod process;
mod socket;
#[cfg(test)]
mod tests;

pub use frame::{Assembly, FrameError, FromKeeper, MAX_FRAME, ToKeeper};
pub use line::{CarriedKeeper, KeeperLine, KeeperNumber, KeptChannel};
pub use machine::Keeper;
pub use process::KeptSessions;
pub use socket::{is_keeper_socket, pair, receive, send};

/// Keepers that a bridge may have: former processes whose channels are not closed yet.
pub const MAX_KEEPERS: usize = 32;
/// Bytes that may wait for the other process before messages of other clients are left out.
const WAITING_OF_OTHERS: usize = 4 * 1024 * 1024;
/// Bytes that may wait before datagrams are dropped, as on a link that is full, and before the keeper reads nothing more.
const WAITING_DATAGRAMS: usize = 8 * 1024 * 1024;
/// Bytes that may wait before channels are closed: the other process does not read.
const WAITING: usize = 16 * 1024 * 1024;
