//! What one peer may cost a worker, in one place. What goes beyond is dropped and counted; nobody else's share shrinks for it.
//!
//! Bounds of sizes stand where the tables are; `docs/security.md` lists them all.

use std::time::Duration;

use crate::budget::Budget;
use crate::media::Bitrate;

/// DTLS datagrams of one endpoint that reach the control plane. A handshake has about ten; data channels come next.
pub type DtlsDatagrams = Budget<200, 100>;

/// Lines of the log that participants can cause, per worker. The counters go on.
pub type Complaints = Budget<1, 10>;

/// Sources that one endpoint may publish one after the other, those apart that come back with their SSRCs: every receiver has to
/// remember how far it got on the SSRCs of each until its keys change, and has room for so many.
pub const MAX_PUBLISHED: u32 = 128;

/// What an endpoint's RTCP costs, in units of about a tenth of a microsecond; see [`rtcp`]. A receiver of fifty videos that loses
/// a fifth of its packets takes a tenth of it.
pub type RtcpWork = Budget<40_000, 16_384>;

/// The same of a relay, which says for a whole bridge what endpoints say each for itself.
pub type RelayRtcpWork = Budget<400_000, 65_536>;

/// Units of [`RtcpWork`].
pub mod rtcp {
    /// Opening one packet, and whatever else is done for each.
    pub const PACKET: u32 = 8;
    /// Each part of a compound packet, of whatever type.
    pub const BLOCK: u32 = 1;
    /// Each number that a NACK asks for.
    pub const NACKED: u32 = 1;
    /// Each report block.
    pub const REPORT: u32 = 1;
    /// Each request for a keyframe.
    pub const KEYFRAME: u32 = 4;
    /// So many packets that transport-wide feedback speaks of.
    pub const STATUSES_PER_UNIT: u32 = 4;
}

/// Sender reports of one encoding that go on to its receivers: each costs a packet for every one of them. Browsers send one or
/// two per second, and more of them only on rising rates.
pub type SenderReports = Budget<20, 10>;

/// Bytes that are sent again to one receiver because it asked: what a path carries bounds that further, once it is known.
pub type RepeatedBytes = Budget<2_500_000, 1_000_000>;

/// The highest rate that a peer is believed, bits per second.
pub const MAX_BITRATE: Bitrate = Bitrate::new(100_000_000_000);

/// Runs of a conference's timers.
pub type TimerRuns = Budget<200, 100>;

/// Changes of what one endpoint sends (heights, layers that come or go) that the allocation follows at once; further ones are
/// followed at this rate, together.
pub type SentChanges = Budget<8, 32>;

/// Commands about one endpoint (constraints, formats, sources, SSRCs) that the allocation follows at once; likewise.
pub type CommandedChanges = Budget<10, 40>;

/// What allocations for all receivers of a conference may owe: the first ones follow at once.
pub const ALLOCATION_BURST: Duration = Duration::from_millis(100);
/// The time that an allocation for one receiver of one source has to be paid for with. It takes a fifth of that or less, so that
/// a conference takes a fifth of a core for them at most, however often its members change their minds.
pub const ALLOCATION_COST: Duration = Duration::from_micros(15);
/// The least that an allocation has to be paid for with.
pub const ALLOCATION_LEAST: Duration = Duration::from_millis(1);

/// Time between two allocations for one receiver whose path changes without end, and how many come at once; microseconds.
pub const REALLOCATION: u64 = 100_000;
/// See [`REALLOCATION`].
pub const REALLOCATION_BURST: u64 = 32;

/// Names that one endpoint's constraints may put on stage, and select or constrain: every allocation looks through them for every
/// source.
pub const MAX_ON_STAGE: usize = 64;
/// See [`MAX_ON_STAGE`].
pub const MAX_SELECTED: usize = 256;
/// Sources of which a relay may say what those behind it want, known ones or not: eight of each endpoint of a full conference.
pub const MAX_RELAY_DEMANDS: usize = 8_192;

/// Names in each list of an endpoint's audio subscription.
pub const MAX_SUBSCRIBED: usize = 512;
