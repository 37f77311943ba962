//! The only way in and out of a worker: one command ring and one event ring each, never a lock.
//!
//! Both are wait-free SPSC rings (`rtrb`) with an eventfd for wake-up. A full command ring pushes back on the
//! control plane, which retries in order; a full event ring makes the worker coalesce or count, never wait.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zeroize::Zeroize;

use crate::conference::Mid;
use crate::ice::stun::TransactionId;
use crate::ids::{ConferenceId, EndpointId};
use crate::io::{EventFd, IoError, Path};
use crate::media::{Encoding, Media, MediaKind, ReceiverConstraints, SourceDescription, VideoType};

/// SSRCs that the bridge itself uses as RTCP sender in one conference (colibri2 `<sources>`, `jvb-a0` and `jvb-v0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedbackSsrcs {
    /// Signalled as `jvb-a0`.
    pub audio: u32,
    /// Signalled as `jvb-v0`; sender SSRC of all RTCP that the bridge originates.
    pub video: u32,
}

/// Credentials of one side of an ICE session (RFC 8445).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// A candidate that the endpoint signalled; most browsers behind a focus signal none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// UDP address.
    pub addr: SocketAddr,
    /// Priority as signalled.
    pub priority: u32,
    /// Whether it is a relayed (TURN) candidate, nominated only as a last resort.
    pub relayed: bool,
}

/// Protection profile that DTLS-SRTP agreed on (RFC 5764, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_256_GCM`: 32-byte key, 12-byte salt, 16-byte tag.
    AeadAes256Gcm,
    /// `SRTP_AEAD_AES_128_GCM`: 16-byte key, 12-byte salt, 16-byte tag.
    AeadAes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`: 16-byte key, 14-byte salt, 10-byte tag.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// Bytes of the master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes of the master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
        }
    }
}

/// Master key and salt of one direction; bytes past [`SrtpProfile::key_len`] and [`SrtpProfile::salt_len`] are zero and
/// unused. Overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// AES master key.
    pub key: [u8; 32],
    /// Master salt.
    pub salt: [u8; 14],
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Keys of one endpoint, exported from its DTLS session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// The agreed profile.
    pub profile: SrtpProfile,
    /// Opens what the endpoint sends.
    pub inbound: MasterKey,
    /// Seals what the bridge sends.
    pub outbound: MasterKey,
}

/// A new endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEndpoint {
    /// The conference that it joins; must exist on the same worker.
    pub conference: ConferenceId,
    /// Its identity.
    pub endpoint: EndpointId,
    /// The name that the control plane knows it by (the MUC resource); for logs and debug views.
    pub label: String,
    /// Our ICE credentials. The ufrag starts with the worker's tag, see [`crate::demux::ufrag_prefix`].
    pub ice: IceCredentials,
    /// Whether the bridge is the controlling agent (it is, for Jicofo and for our focus).
    pub controlling: bool,
}

/// Control plane to worker. A command for an unknown conference or endpoint is dropped and counted.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Starts an empty conference on this worker. One that outgrows a worker exists on several.
    CreateConference {
        /// Its identity.
        conference: ConferenceId,
        /// The bridge's own SSRCs in it.
        feedback: FeedbackSsrcs,
    },
    /// Ends a conference and every endpoint in it.
    ExpireConference {
        /// Which.
        conference: ConferenceId,
    },
    /// Adds an endpoint, or is answered by [`Event::EndpointRefused`].
    CreateEndpoint(Box<NewEndpoint>),
    /// Adds an endpoint of the conference that lives on another worker: its media comes from there, opened. Which
    /// commands of it go here, too, says [`Command::is_shared`]. Refused like [`Command::CreateEndpoint`].
    CreateRemoteEndpoint {
        /// The conference; must exist on this worker, too.
        conference: ConferenceId,
        /// Its identity.
        endpoint: EndpointId,
        /// Index of the worker that it lives on.
        home: usize,
    },
    /// Removes an endpoint and its sources.
    ExpireEndpoint {
        /// Which.
        endpoint: EndpointId,
    },
    /// Sets the remote credentials and adds candidates; checks start as soon as credentials are known.
    SetRemoteIce {
        /// Whose.
        endpoint: EndpointId,
        /// Remote credentials; `None` keeps those already set.
        credentials: Option<IceCredentials>,
        /// Candidates to add.
        candidates: Vec<RemoteCandidate>,
    },
    /// Begins an ICE restart in place: the endpoint is found under these credentials of ours, too, and what carries media goes
    /// on until a pair of the new ones is nominated. The same again changes nothing; a later number replaces what is under way.
    RestartIce {
        /// Whose.
        endpoint: EndpointId,
        /// Counts up from 1.
        generation: u32,
        /// Our new credentials. The ufrag starts with the worker's tag, like the first one.
        local: IceCredentials,
    },
    /// The endpoint's part of an ICE restart: checks start as soon as its credentials are known.
    AnswerIceRestart {
        /// Whose.
        endpoint: EndpointId,
        /// Which restart; of another one than that under way it is dropped and counted.
        generation: u32,
        /// The endpoint's new credentials; `None` adds candidates only.
        credentials: Option<IceCredentials>,
        /// Candidates to add.
        candidates: Vec<RemoteCandidate>,
    },
    /// Installs SRTP keys; media flows from here on.
    SetSrtp {
        /// Whose.
        endpoint: EndpointId,
        /// The keys.
        keys: Box<SrtpKeys>,
    },
    /// Sends one DTLS datagram on the selected pair.
    SendDtls {
        /// To whom.
        endpoint: EndpointId,
        /// The datagram, at most 1,500 bytes.
        datagram: Vec<u8>,
    },
    /// Replaces formats and header extensions.
    SetMedia {
        /// Whose.
        endpoint: EndpointId,
        /// The new value.
        media: Box<Media>,
    },
    /// Replaces the set of sources that the endpoint publishes.
    SetSources {
        /// Whose.
        endpoint: EndpointId,
        /// The complete new set.
        sources: Vec<SourceDescription>,
    },
    /// Replaces what the endpoint wants to receive.
    SetConstraints {
        /// Whose.
        endpoint: EndpointId,
        /// The new value.
        constraints: Box<ReceiverConstraints>,
    },
    /// Gives the endpoint everything on a bounded set of the bridge's own SSRCs (bridge-protocol section 6.6). Once, before
    /// its keys.
    SetSsrcRewriting {
        /// Whose.
        endpoint: EndpointId,
        /// How many.
        rewriting: SsrcRewriting,
    },
    /// Its client was told what its SSRCs carry: packets may go.
    MappingsTold {
        /// Whose.
        endpoint: EndpointId,
        /// The number of the newest [`Event::SourcesMapped`] that it was told.
        announcement: u64,
    },
    /// Replaces the list of others' sources that the endpoint's client was not told of yet: nothing of them goes to it before.
    /// Without effect where its SSRCs are rewritten: there [`Command::MappingsTold`] says the same.
    SetUntold {
        /// Whose.
        endpoint: EndpointId,
        /// Their names.
        sources: Vec<String>,
    },
    /// Drops the endpoint's audio or video at the input.
    SetForceMute {
        /// Whose.
        endpoint: EndpointId,
        /// Drop audio.
        audio: bool,
        /// Drop video.
        video: bool,
    },
    /// Asks a STUN server how it sees the media port (a Binding request without credentials); asking again repeats it.
    AskServer {
        /// From which socket, and the server.
        path: Path,
        /// Made by [`crate::ice::question`] for the worker that asks.
        transaction: TransactionId,
    },
    /// Ends the worker's loop after what is queued before it.
    Shutdown,
}

impl Command {
    /// Whether it goes to every worker that takes part in the endpoint's conference, and not only to the endpoint's home.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::SetMedia { .. } | Self::SetSources { .. } | Self::ExpireEndpoint { .. })
    }
}

/// How many SSRCs of the bridge's own an endpoint gets everything on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsrcRewriting {
    /// Most SSRCs of audio.
    pub audio: usize,
    /// Most pairs of SSRCs of video, media and retransmission.
    pub video: usize,
    /// Where the numbers come from; any value.
    pub seed: u64,
    /// Packets carry the media section id of their SSRCs, where the receiver negotiated that.
    pub mids: bool,
}

/// What an SSRC of the bridge's own carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedSource {
    /// Source name.
    pub name: String,
    /// Its owner.
    pub owner: EndpointId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Camera or desktop; meaningless for audio.
    pub video_type: VideoType,
    /// The SSRCs that the receiver gets it on.
    pub ssrcs: Encoding,
    /// The media section id of those; none where the receiver goes by SSRCs.
    pub mid: Option<Mid>,
}

/// State of an endpoint's ICE session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceState {
    /// A pair is valid: DTLS may start.
    Connected,
    /// Consent was lost (RFC 7675) or no pair became valid; nothing is sent any more. May become connected again.
    Disconnected,
}

/// How an ICE restart ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOutcome {
    /// Media goes over a pair of the new credentials.
    Connected,
    /// No pair was nominated in time; what was before goes on.
    Abandoned,
}

/// Why a worker did not create an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CreateError {
    /// The worker has as many endpoints as it takes.
    WorkerFull,
    /// The conference has as many endpoints on this worker as it takes, those that live elsewhere included.
    ConferenceFull,
    /// The id or the ICE ufrag belongs to another endpoint.
    Taken,
    /// The worker does not have the conference.
    UnknownConference,
    /// The home of a remote endpoint is no other worker.
    UnknownWorker,
}

/// What is known of the way to a receiver. Rates are bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What its path carries; `None` while that is not known and no limit applies.
    pub estimate_bps: Option<u64>,
    /// What the allocation grants it.
    pub target_bps: u64,
    /// What it would be granted if its path carried everything.
    pub ideal_bps: u64,
    /// What it was sent in the last second, RTP in all.
    pub sent_bps: u64,
    /// Round-trip time.
    pub rtt: Option<Duration>,
    /// Packets lost lately, out of a thousand.
    pub lost_per_mille: u16,
    /// Sources that it wants and that its path has no room for.
    pub suspended: u16,
    /// It sends REMB although it negotiated transport-wide feedback.
    pub spurious_remb: bool,
}

/// Worker to control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An endpoint was not created: whatever else is said about it is dropped and counted.
    EndpointRefused {
        /// As in [`Command::CreateEndpoint`] or [`Command::CreateRemoteEndpoint`].
        endpoint: EndpointId,
        /// Why.
        error: CreateError,
    },
    /// A STUN server answered a [`Command::AskServer`]: a success or error response from there, with the right id.
    ServerAnswered {
        /// At which socket, and the server.
        path: Path,
        /// The answer, at most [`crate::ice::stun::MAX_MESSAGE`] bytes.
        datagram: Vec<u8>,
    },
    /// ICE changed its state.
    Ice {
        /// Whose.
        endpoint: EndpointId,
        /// The new state.
        state: IceState,
        /// Remote address of the selected pair, when connected.
        remote: Option<SocketAddr>,
        /// Whether that is a relayed (TURN) candidate of the endpoint.
        relayed: bool,
    },
    /// An ICE restart ended. One that a later one replaced has no end of its own.
    IceRestart {
        /// Whose.
        endpoint: EndpointId,
        /// Which one.
        generation: u32,
        /// How.
        outcome: RestartOutcome,
    },
    /// A DTLS datagram arrived over a verified pair (rate-limited per endpoint).
    Dtls {
        /// From whom.
        endpoint: EndpointId,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// The endpoint sent something authenticated after silence, or fell silent (no packet, no consent).
    Activity {
        /// Whose.
        endpoint: EndpointId,
        /// Whether it is active.
        active: bool,
    },
    /// The dominant speaker of a conference changed. Of several workers, the home of the oldest endpoint tells it.
    DominantSpeaker {
        /// Where.
        conference: ConferenceId,
        /// The dominant speaker first, then up to ten earlier ones.
        recent: Vec<EndpointId>,
    },
    /// The set of video sources forwarded to a receiver changed (bridge channel `ForwardedSources`).
    ForwardedSources {
        /// The receiver.
        endpoint: EndpointId,
        /// Source names.
        sources: Vec<String>,
    },
    /// What the SSRCs of a receiver carry changed (bridge channel `AudioSourcesMap`, `VideoSourcesMap`).
    SourcesMapped {
        /// The receiver.
        endpoint: EndpointId,
        /// Counts up; to be answered by [`Command::MappingsTold`].
        announcement: u64,
        /// Everything that is carried now.
        sources: Vec<MappedSource>,
    },
    /// The way to a receiver changed; told at most once a second.
    Bandwidth {
        /// The receiver.
        endpoint: EndpointId,
        /// The present state.
        bandwidth: Bandwidth,
    },
    /// The largest height that any receiver on any worker wants of a source changed (bridge channel
    /// `SenderSourceConstraints`). The owner's home tells it.
    SourceDemand {
        /// The owner of the source.
        endpoint: EndpointId,
        /// Source name.
        source: String,
        /// Pixels; -1 is unlimited, 0 is nobody.
        max_height: i32,
    },
}

/// A wake-up that is written at most once until the reader consumed it.
#[derive(Debug, Clone, Default)]
pub struct Pending(Arc<AtomicBool>);

impl Pending {
    /// Marks as pending; true when the reader must be woken (it was not pending yet).
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// The reader calls this before it drains the ring.
    pub fn clear(&self) {
        // A swap, not a store: a plain store may pass the ring's loads that follow it, and a wake-up would be lost.
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// Makes both ends of the rings of one worker; the capacities are entries.
pub fn links(
    worker: usize,
    command_capacity: usize,
    event_capacity: usize,
) -> Result<(WorkerLink, ControlLink), IoError> {
    let (command_tx, command_rx) = rtrb::RingBuffer::new(command_capacity);
    let (event_tx, event_rx) = rtrb::RingBuffer::new(event_capacity);
    let wakeup = Wakeup { fd: EventFd::new()?, pending: Pending::default() };
    let event_wakeup = Wakeup { fd: EventFd::new()?, pending: Pending::default() };
    let control = ControlLink {
        commands: command_rx,
        wakeup: wakeup.clone(),
        events: event_tx,
        event_wakeup: event_wakeup.clone(),
    };
    Ok((WorkerLink { worker, commands: command_tx, wakeup, events: event_rx, event_wakeup }, control))
}

/// Wakes the one reader of one or more rings; writes its eventfd only when the reader may be asleep.
#[derive(Debug, Clone)]
pub struct Wakeup {
    fd: EventFd,
    pending: Pending,
}

impl Wakeup {
    /// A new one.
    pub fn new() -> Result<Self, IoError> {
        Ok(Self { fd: EventFd::new()?, pending: Pending::default() })
    }

    /// The writer calls this after it has queued something.
    pub fn wake(&self) {
        if self.pending.raise() {
            self.fd.notify();
        }
    }

    /// The reader calls this when it woke up, before it drains its rings.
    pub fn clear(&self) {
        self.pending.clear();
    }

    /// What the reader sleeps on.
    pub fn event_fd(&self) -> &EventFd {
        &self.fd
    }
}

/// The control plane's end of one worker's rings.
#[derive(Debug)]
pub struct WorkerLink {
    worker: usize,
    commands: rtrb::Producer<Command>,
    wakeup: Wakeup,
    events: rtrb::Consumer<Event>,
    event_wakeup: Wakeup,
}

impl WorkerLink {
    /// Index of the worker, counted from 0; [`crate::demux::ufrag_prefix`] takes it.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Queues a command and wakes the worker. A full ring hands the command back:
    /// keep it, and all later commands behind it, and try again when the worker has had a moment (1 ms).
    #[allow(clippy::result_large_err)]
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        match self.commands.push(command) {
            Ok(()) => {
                self.wakeup.wake();
                Ok(())
            }
            Err(rtrb::PushError::Full(command)) => {
                self.wakeup.wake();
                Err(command)
            }
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop().ok()
    }

    /// Readable when events may be waiting: wrap it in tokio's `AsyncFd`. On readiness call
    /// [`Self::clear_wakeup`] first, then [`Self::poll_event`] until it is empty.
    pub fn event_fd(&self) -> RawFd {
        self.event_wakeup.fd.as_raw_fd()
    }

    /// A clone of the same descriptor that can be moved into an `AsyncFd`.
    pub fn event_wakeup(&self) -> EventFd {
        self.event_wakeup.fd.clone()
    }

    /// Takes the wake-up back; the next event raises it again.
    pub fn clear_wakeup(&mut self) {
        self.event_wakeup.fd.drain();
        self.event_wakeup.clear();
    }

    /// Whether the worker's end is gone: its thread has ended.
    pub fn is_closed(&self) -> bool {
        self.commands.is_abandoned()
    }
}

/// The worker's end of its rings.
#[derive(Debug)]
pub struct ControlLink {
    commands: rtrb::Consumer<Command>,
    wakeup: Wakeup,
    events: rtrb::Producer<Event>,
    event_wakeup: Wakeup,
}

impl ControlLink {
    /// The next command, oldest first.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop().ok()
    }

    /// Queues an event and wakes the control plane; hands it back when the ring is full.
    #[allow(clippy::result_large_err)]
    pub fn send(&mut self, event: Event) -> Result<(), Event> {
        match self.events.push(event) {
            Ok(()) => {
                self.event_wakeup.wake();
                Ok(())
            }
            Err(rtrb::PushError::Full(event)) => Err(event),
        }
    }

    /// Free entries of the event ring.
    pub fn event_slots(&self) -> usize {
        self.events.slots()
    }

    /// What wakes the worker; peers and the control plane share it.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Whether the control plane has dropped its end.
    pub fn is_closed(&self) -> bool {
        self.commands.is_abandoned()
    }
}
