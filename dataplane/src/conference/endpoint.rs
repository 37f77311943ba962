//! One participant: its keys, its numbers, its wishes.

use std::time::Instant;

use super::extension_map::ExtensionMap;
use super::format::FormatTable;
use super::leg::OutputStream;
use crate::ids::{ConferenceId, EndpointId};
use crate::io::{MAX_DATAGRAM, PacketSink, Path};
use crate::media::ReceiverConstraints;
use crate::rtcp::TwccRecorder;
use crate::srtp::{MAX_OVERHEAD, Opener, Sealer};
use crate::stats::{Counter, WorkerStats};

/// Outgoing SSRCs whose numbers are kept after their source went away.
const MAX_RETIRED: usize = 64;

/// What an incoming SSRC is.
#[derive(Debug, Clone, Copy)]
pub struct SsrcRole {
    /// The SSRC.
    pub ssrc: u32,
    /// Index of the source.
    pub source: usize,
    /// Simulcast encoding.
    pub encoding: u8,
    /// Whether it carries retransmissions.
    pub rtx: bool,
}

/// One endpoint on this worker.
pub struct Endpoint {
    /// Its identity.
    pub id: EndpointId,
    /// Where it is.
    pub conference: ConferenceId,
    /// Where its packets go; `None` while ICE has no pair.
    pub path: Option<Path>,
    /// Opens what it sends.
    pub opener: Option<Opener>,
    /// Seals what it gets.
    pub sealer: Option<Sealer>,
    /// Payload types.
    pub formats: FormatTable,
    /// Header extensions.
    pub extensions: ExtensionMap,
    /// Incoming SSRCs.
    pub ssrcs: Vec<SsrcRole>,
    /// Sources that it publishes.
    pub sources: Vec<usize>,
    /// Whether its audio is dropped.
    pub mute_audio: bool,
    /// Whether its video is dropped.
    pub mute_video: bool,
    /// Whether it takes PLI; otherwise FIR.
    pub takes_pli: bool,
    /// Whether it wants transport-wide feedback on what it sends.
    pub wants_twcc: bool,
    /// What it wants to receive.
    pub constraints: ReceiverConstraints,
    /// Records what it sends.
    pub twcc: TwccRecorder,
    /// Next transport-wide sequence number towards it.
    pub next_transport_cc: u16,
    /// Sequence number of the next FIR.
    pub next_fir: u8,
    /// Last authenticated packet or consent.
    pub last_activity: Instant,
    /// What the control plane was last told of its activity.
    pub reported_active: bool,
    /// Names of the video sources that it was last told it gets.
    pub forwarded: Vec<String>,
    retired: Vec<(u32, OutputStream)>,
}

impl Endpoint {
    /// An endpoint that negotiated nothing yet.
    pub fn new(now: Instant, id: EndpointId, conference: ConferenceId) -> Self {
        Self {
            id,
            conference,
            path: None,
            opener: None,
            sealer: None,
            formats: FormatTable::default(),
            extensions: ExtensionMap::default(),
            ssrcs: Vec::new(),
            sources: Vec::new(),
            mute_audio: false,
            mute_video: false,
            takes_pli: true,
            wants_twcc: false,
            constraints: ReceiverConstraints::default(),
            twcc: TwccRecorder::default(),
            next_transport_cc: 1,
            next_fir: 0,
            last_activity: now,
            reported_active: true,
            forwarded: Vec::new(),
            retired: Vec::with_capacity(MAX_RETIRED),
        }
    }

    /// What an SSRC of this endpoint is.
    #[inline]
    pub fn role(&self, ssrc: u32) -> Option<SsrcRole> {
        self.ssrcs.iter().find(|role| role.ssrc == ssrc).copied()
    }

    /// Keeps the numbers of an outgoing SSRC whose source went away.
    pub fn retire(&mut self, ssrc: u32, stream: OutputStream) {
        self.retired.retain(|(retired, _)| *retired != ssrc);
        if self.retired.len() == MAX_RETIRED {
            self.retired.remove(0);
        }
        self.retired.push((ssrc, stream));
    }

    /// The numbers to go on with for an outgoing SSRC.
    pub fn revive(&mut self, ssrc: u32) -> OutputStream {
        match self.retired.iter().position(|(retired, _)| *retired == ssrc) {
            Some(position) => self.retired.swap_remove(position).1,
            None => OutputStream::default(),
        }
    }

    /// Seals and sends what `build` writes into a buffer, if the endpoint can be reached.
    pub fn send_rtcp(
        &mut self,
        sink: &mut impl PacketSink,
        stats: &WorkerStats,
        build: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let (Some(path), Some(sealer)) = (self.path, self.sealer.as_mut()) else { return false };
        let Some(slot) = sink.slot() else {
            stats.count(Counter::DropOutputFull);
            return false;
        };
        let Some(len) = build(&mut slot[..MAX_DATAGRAM - MAX_OVERHEAD]) else { return false };
        match sealer.seal_rtcp(slot, len) {
            Ok(len) => {
                sink.commit(len, path);
                true
            }
            Err(_) => false,
        }
    }
}
