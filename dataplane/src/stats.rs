//! Counters of one worker: plain numbers that anyone may read without stopping it.
//!
//! Each counter has one writer, its worker, so relaxed stores are enough. Everything that a worker drops,
//! refuses or retries has a counter here; `metric` and `reason` name it for the exporter.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $metric:literal, $reason:literal;)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        #[non_exhaustive]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter, in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// Name of the metric; several counters share one and differ by `reason`.
            pub const fn metric(self) -> &'static str {
                match self { $(Counter::$name => $metric,)* }
            }

            /// Value of the metric's `reason` label; empty where the metric has none.
            pub const fn reason(self) -> &'static str {
                match self { $(Counter::$name => $reason,)* }
            }
        }
    };
}

counters! {
    /// Datagrams received.
    PacketsReceived = "packets_received", "";
    /// Bytes received, UDP payload.
    BytesReceived = "bytes_received", "";
    /// Datagrams queued for sending.
    PacketsSent = "packets_sent", "";
    /// Bytes queued for sending, UDP payload.
    BytesSent = "bytes_sent", "";
    /// RTP packets forwarded, counted once per receiver.
    PacketsForwarded = "packets_forwarded", "";
    /// RTP packets that a receiver is not given: its allocation or constraints grant it another layer or nothing of the source.
    /// These three are counted once per receiver, and with [`Self::PacketsForwarded`] and the drops account for every packet.
    LeftOutUnwanted = "left_out", "unwanted";
    /// The same of those that wait for a keyframe to begin with.
    LeftOutAwaitsKeyframe = "left_out", "awaits_keyframe";
    /// The same of those whose address is not proven yet or any more, or that have no keys yet.
    LeftOutNotConnected = "left_out", "not_connected";
    /// RTP packets that came by relays.
    RelayPacketsReceived = "relay_packets_received", "";
    /// Bytes of them, UDP payload.
    RelayBytesReceived = "relay_bytes_received", "";
    /// RTP packets that went to relays, repeated ones included.
    RelayPacketsSent = "relay_packets_sent", "";
    /// Bytes of them, UDP payload.
    RelayBytesSent = "relay_bytes_sent", "";
    /// RTP packets of encodings that nobody behind a relay wants, counted once per relay.
    RelayUnwanted = "relay_left_out", "unwanted";
    /// RTP packets that wait for a keyframe of their encoding to begin with, likewise.
    RelayAwaitsKeyframe = "relay_left_out", "awaits_keyframe";
    /// Sources that do not go to a relay, since an SSRC of theirs is another source's there, or too many were used up.
    RelaySourcesRefused = "relay_sources_refused", "";
    /// RTP packets that senders numbered, repeated ones apart, by receiver reports.
    RtpExpected = "rtp_expected", "";
    /// Those of them that did not come, or came later.
    RtpLost = "rtp_lost", "";
    /// Keyframes that came, each encoding on its own.
    KeyframesReceived = "keyframes_received", "";
    /// Layers of video that came or went.
    LayeringChanges = "layering_changes_received", "";
    /// Times that the encodings of a source were put into another order, by what they turned out to carry.
    EncodingsReranked = "encodings_reranked", "";
    /// Milliseconds of video that came, each encoding on its own; in steps of half a second, the interval of receiver reports.
    VideoMillis = "video_milliseconds_received", "";
    /// Endpoints that the worker keeps, those of other workers apart; a gauge, like all that is held.
    HeldEndpoints = "held", "endpoints";
    /// Conferences that it has a part of.
    HeldConferences = "held", "conferences";
    /// Addresses that it knows the endpoints of.
    HeldAddresses = "held", "addresses";
    /// Deadlines of endpoints that it waits for.
    HeldTimers = "held", "timers";
    /// Sockets that belong to one endpoint each.
    HeldSockets = "held", "sockets";
    /// Nanoseconds that the worker spent working (not waiting).
    BusyNanos = "busy_nanoseconds", "";
    /// Nanoseconds of a processor that it got, also for receiving. Less than a quarter of the former: others have the processor.
    ProcessorNanos = "processor_nanoseconds", "";
    /// System calls of the packet path: receiving, sending, waiting.
    Syscalls = "syscalls", "";
    /// How much the worker leaves out, 0 (nothing) to 18 (all video); a gauge.
    SheddingLevel = "shedding_level", "";
    /// Times that the video of a conference was divided anew among all its receivers.
    Allocations = "allocations", "";
    /// Turns of the loop; a worker whose number stands still is stalled.
    LoopTurns = "loop_turns", "";
    /// First byte fits no protocol of RFC 7983, or the datagram is empty.
    DropUnknownProtocol = "dropped", "unknown_protocol";
    /// STUN that does not parse.
    DropStunMalformed = "dropped", "stun_malformed";
    /// STUN request for a ufrag that no endpoint has.
    DropStunUnknownUfrag = "dropped", "stun_unknown_ufrag";
    /// STUN with a wrong or missing MESSAGE-INTEGRITY.
    DropStunIntegrity = "dropped", "stun_integrity";
    /// STUN response to no check that is under way from there (late, or forged).
    DropStunUnknownTransaction = "dropped", "stun_unknown_transaction";
    /// Not STUN, from an address that no endpoint has verified.
    DropUnknownAddress = "dropped", "unknown_address";
    /// DTLS beyond the rate limit of its endpoint.
    DropDtlsRate = "dropped", "dtls_rate";
    /// Something to send to an endpoint that has no valid address pair.
    DropNoPath = "dropped", "no_path";
    /// SRTP or SRTCP before keys are known.
    DropNoKeys = "dropped", "no_keys";
    /// RTP that does not parse, including its extensions and padding.
    DropRtpMalformed = "dropped", "rtp_malformed";
    /// RTCP that does not parse.
    DropRtcpMalformed = "dropped", "rtcp_malformed";
    /// SRTP whose tag does not verify.
    DropSrtpAuth = "dropped", "srtp_auth";
    /// SRTP seen before, or older than the replay window.
    DropSrtpReplay = "dropped", "srtp_replay";
    /// SRTCP whose tag does not verify.
    DropSrtcpAuth = "dropped", "srtcp_auth";
    /// SRTCP seen before, or older than the replay window.
    DropSrtcpReplay = "dropped", "srtcp_replay";
    /// RTP that came before, on its own SSRC or repeated on another one.
    DropDuplicate = "dropped", "duplicate";
    /// RTP so much older than the newest of its encoding that it has no place any more.
    DropTooOld = "dropped", "too_old";
    /// RTP of an SSRC that no signalled source has.
    DropUnknownSsrc = "dropped", "unknown_ssrc";
    /// RTP by a relay, of an SSRC that belongs to somebody who is not behind it: a loop among bridges, or forged.
    DropRelayLooped = "dropped", "relay_looped";
    /// RTP for a relay that comes too late to get a number there.
    DropRelayLate = "dropped", "relay_late";
    /// RTP with a payload type that the sender did not negotiate.
    DropUnknownPayloadType = "dropped", "unknown_payload_type";
    /// Audio or video of an endpoint that is force-muted.
    DropForceMuted = "dropped", "force_muted";
    /// Audio of somebody who is not among the loudest, where only those are forwarded.
    DropNotLoudest = "dropped", "not_loudest";
    /// A packet for a receiver that did not negotiate its codec.
    DropReceiverLacksCodec = "dropped", "receiver_lacks_codec";
    /// Video whose dependency descriptor cannot be read: no keyframe came before it, or it is damaged.
    DropDependencyUnknown = "dropped", "dependency_unknown";
    /// A packet that does not fit a datagram after rewriting, or whose payload contradicts itself.
    DropRewriteFailed = "dropped", "rewrite_failed";
    /// A packet to repeat for a receiver without RTX, which its AEAD keys forbid (RFC 7714 section 8.4).
    DropCannotRepeat = "dropped", "cannot_repeat";
    /// Audio for a receiver with SSRC rewriting that has no SSRC for it, or whose client does not know yet what its SSRC carries.
    DropUnmapped = "dropped", "ssrc_unmapped";
    /// Audio for a receiver to whose client its source was not signalled yet.
    DropUnsignalled = "dropped", "unsignalled";
    /// Video of a receiver that a worker at its limit leaves out.
    DropShed = "dropped", "shed";
    /// RTP of a sender that takes more than its share of a worker at its limit.
    DropInputShare = "dropped", "input_share";
    /// STUN requests of one endpoint beyond what connectivity checks need.
    DropStunRate = "dropped", "stun_rate";
    /// Output with no free slot.
    DropOutputFull = "dropped", "output_full";
    /// A datagram for another worker whose ring is full.
    DropHandoverFull = "dropped", "handover_full";
    /// An opened packet for receivers on another worker whose ring is full; counted once per worker.
    DropCrossWorkerFull = "dropped", "cross_worker_full";
    /// An opened packet from another worker for a source that is not known here (yet, or any more).
    DropCrossWorkerUnknown = "dropped", "cross_worker_unknown_source";
    /// The kernel refused a datagram.
    DropSendError = "dropped", "send_error";
    /// A received datagram longer than the bridge takes.
    DropOversized = "dropped", "oversized";
    /// Datagrams that the kernel dropped because a socket's receive buffer was full.
    DropSocketOverflow = "dropped", "socket_overflow";
    /// Endpoints whose own sockets the worker did not take up: it has no room for more, or they cannot be used.
    HandedSocketsRefused = "handed_sockets", "refused";
    /// Handed sockets that cannot be read any more.
    HandedSocketsFailed = "handed_sockets", "failed";
    /// STUN at a socket that is not the addressed endpoint's.
    DropForeignSocket = "dropped", "foreign_socket";
    /// Completions that an io_uring lost.
    DropRingOverflow = "dropped", "ring_overflow";
    /// An event for a full event ring.
    DropEventFull = "dropped", "event_full";
    /// A command for a conference or endpoint that does not exist.
    DropCommandUnknown = "dropped", "command_unknown_id";
    /// An endpoint's answer to an ICE restart that is not under way (any more), or that it has answered before.
    DropRestartAnswer = "dropped", "ice_restart_answer";
    /// A table with bounded size was full (addresses, SSRCs, sources).
    DropTableFull = "dropped", "table_full";
    /// Formats that an endpoint negotiated beyond its or its conference's share; it does without them.
    FormatsRefused = "negotiation_refused", "formats";
    /// Header extensions that an endpoint negotiated beyond its or its conference's share; it does without them.
    ExtensionsRefused = "negotiation_refused", "extensions";
    /// Names in receiver constraints, subscriptions and lists of unsignalled sources beyond what is looked at.
    ConstraintsRefused = "constraints_refused", "";
    /// SSRCs that were taken from one source for another, of receivers with SSRC rewriting.
    SsrcRemaps = "ssrc_remaps", "";
    /// Times that io_uring had no receive buffer; the datagrams waited in the socket.
    ReceiveBuffersExhausted = "receive_buffers_exhausted", "";
    /// Datagrams handed to the worker that owns their endpoint.
    Handovers = "handovers", "";
    /// Paths that the kernel would not steer (its map was full): their packets are handed over.
    SteeringRefused = "steering", "refused";
    /// Opened packets given to another worker that has receivers of the conference, once per worker.
    CrossWorkerPackets = "cross_worker_packets", "";
    /// Packets repeated because a receiver asked for them.
    Retransmissions = "retransmissions", "";
    /// Packets repeated to find out whether a receiver's path carries more.
    ProbePackets = "probe_packets", "";
    /// Packets asked for by a receiver whose path has no room for more of them.
    DropRepairBudget = "dropped", "repair_budget";
    /// RTCP, or the rest of a compound packet, of an endpoint whose RTCP asks for more work than one may.
    DropRtcpBudget = "dropped", "rtcp_budget";
    /// Packets asked for by a receiver that the cache no longer had.
    NackCacheMiss = "nack_cache_misses", "";
    /// Packets that the bridge asked a sender to repeat.
    NackSent = "nack_requested_packets", "";
    /// Transport-wide congestion control feedback from receivers.
    TransportFeedbackReceived = "transport_feedback", "received";
    /// Packets in such feedback that are not, or no longer, known as sent.
    TransportFeedbackUnmatched = "transport_feedback", "unmatched";
    /// Keyframe requests sent to senders.
    KeyframeRequests = "keyframe_requests", "sent";
    /// Keyframe requests held back by the throttle.
    KeyframeRequestsThrottled = "keyframe_requests", "throttled";
}

impl Counter {
    /// Whether it may also go down.
    pub const fn is_gauge(self) -> bool {
        matches!(
            self,
            Self::SheddingLevel
                | Self::HeldEndpoints
                | Self::HeldConferences
                | Self::HeldAddresses
                | Self::HeldTimers
                | Self::HeldSockets
        )
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub struct WorkerStats {
    values: [AtomicU64; Counter::ALL.len()],
}

impl Default for WorkerStats {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl WorkerStats {
    /// Adds `n`; only the owning worker calls this.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let cell = &self.values[counter as usize];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Sets a gauge; only the owning worker calls this.
    pub fn set(&self, counter: Counter, value: u64) {
        self.values[counter as usize].store(value, Ordering::Relaxed);
    }

    /// What was counted so far, by name and reason: other releases may count more, or less. Gauges show the present, and are left out.
    pub(crate) fn counted(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counters = Counter::ALL.iter().filter(|counter| !counter.is_gauge());
        let values = counters.map(|counter| (counter.metric(), counter.reason(), self.get(*counter)));
        values.filter(|(.., value)| *value > 0).collect()
    }

    /// Adds what another process counted before; what is not counted any more is forgotten.
    pub(crate) fn count_on(&self, counted: &[(String, String, u64)]) {
        for (metric, reason, value) in counted {
            let named = |counter: &&Counter| counter.metric() == metric && counter.reason() == reason;
            if let Some(counter) = Counter::ALL.iter().find(named).filter(|counter| !counter.is_gauge()) {
                self.add(*counter, *value);
            }
        }
    }

    /// Reads one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }
}
