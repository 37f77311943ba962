//! What a worker reports to the control plane.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::datagram::Path;
use crate::ice::{IceState, RestartOutcome};
use crate::ids::{ConferenceId, EndpointId};
use crate::media::{Bitrate, Encoding, Limit, MediaKind, Mid, VideoType};

/// Worker to control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// An endpoint was not created: whatever else is said about it is dropped and counted.
    EndpointRefused {
        /// As in the command that was to create it: an endpoint, a relay, or one of another worker or bridge.
        endpoint: EndpointId,
        /// Why it was not created.
        error: CreateError,
    },
    /// A STUN server answered a [`super::Command::AskServer`]: a success or error response from there, with the right id.
    ServerAnswered {
        /// At which socket, and the server.
        path: Path,
        /// The answer, at most [`crate::ice::stun::MAX_MESSAGE`] bytes.
        datagram: Vec<u8>,
    },
    /// ICE changed its state.
    Ice {
        /// The endpoint that is reached or lost.
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
        /// The endpoint whose connection was restarted.
        endpoint: EndpointId,
        /// Its number, as in [`super::Command::RestartIce`].
        generation: u32,
        /// Whether media moved.
        outcome: RestartOutcome,
    },
    /// A DTLS datagram arrived over a verified pair (rate-limited per endpoint).
    Dtls {
        /// The endpoint that sent it.
        endpoint: EndpointId,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// The endpoint sent something authenticated after silence, or fell silent (no packet, no consent).
    Activity {
        /// The endpoint that came back or fell silent.
        endpoint: EndpointId,
        /// Whether it is active.
        active: bool,
    },
    /// The dominant speaker of a conference changed. Of several workers, the home of the oldest endpoint reports it.
    DominantSpeaker {
        /// The conference that they speak in.
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
        /// Counts up; to be answered by [`super::Command::MappingsSignalled`].
        announcement: u64,
        /// Everything that is carried now.
        sources: Vec<MappedSource>,
    },
    /// The way to a receiver changed; sent at most once a second.
    Bandwidth {
        /// The receiver.
        endpoint: EndpointId,
        /// The present state.
        bandwidth: Bandwidth,
    },
    /// The largest height that any receiver on any worker wants of a source changed, those behind relays included: what to ask
    /// the owner for (bridge channel `SenderSourceConstraints`), or the relay that it is behind (relay channel `AddReceiver`).
    /// The owner's home reports it, which is the relay's for those behind one.
    SourceDemand {
        /// The owner of the source.
        endpoint: EndpointId,
        /// Source name.
        source: String,
        /// Pixels; off where nobody wants it.
        max_height: Limit,
    },
}

/// What an SSRC of the bridge's own carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why a worker did not create an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CreateError {
    /// The worker has as many endpoints as it takes.
    #[error("the worker is full")]
    WorkerFull,
    /// The conference has as many endpoints on this worker as it takes, those that live elsewhere included.
    #[error("the conference is full")]
    ConferenceFull,
    /// The id or the ICE ufrag belongs to another endpoint.
    #[error("the id or the ICE ufrag belongs to another endpoint")]
    Taken,
    /// The worker does not have the conference.
    #[error("the worker does not have the conference")]
    UnknownConference,
    /// The sockets that it was to have of its own could not be opened; the worker's log says why.
    #[error("its own UDP sockets could not be opened")]
    NoSockets,
    /// The home of a remote endpoint is no other worker.
    #[error("the home worker of a remote endpoint must be another worker")]
    UnknownWorker,
    /// The worker has no such relay in the conference.
    #[error("the worker has no such relay in the conference")]
    UnknownRelay,
}

/// What is known of the way to a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What its path carries; `None` while that is not known and no limit applies.
    pub estimate: Option<Bitrate>,
    /// What the allocation gives it.
    pub target: Bitrate,
    /// What it would be granted if its path carried everything.
    pub ideal: Bitrate,
    /// What it was sent in the last second, RTP in all.
    pub sent: Bitrate,
    /// Round-trip time.
    pub rtt: Option<Duration>,
    /// Packets lost lately, out of a thousand.
    pub lost_per_mille: u16,
    /// Sources that it wants and that its path has no room for.
    pub suspended: u16,
    /// It sends REMB although it negotiated transport-wide feedback.
    pub spurious_remb: bool,
}
