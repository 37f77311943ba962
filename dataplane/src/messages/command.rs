//! What the control plane asks of a worker.

use serde::{Deserialize, Serialize};

use crate::datagram::{HandedSocket, Path};
use crate::ice::stun::TransactionId;
use crate::ice::{IceCredentials, RemoteCandidate};
use crate::ids::{ConferenceId, EndpointId, MeshId, Ssrc, WorkerId};
use crate::media::{Limit, Media, ReceiverConstraints, SourceDescription};
use crate::srtp::SrtpKeys;

/// Control plane to worker. A command for an unknown conference or endpoint is dropped and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
        /// The one that ends.
        conference: ConferenceId,
    },
    /// Adds an endpoint, or is answered by [`super::Event::EndpointRefused`].
    CreateEndpoint(Box<NewEndpoint>),
    /// Adds an endpoint of the conference that lives on another worker: its media comes from there, opened. Which
    /// commands of it go here, too, says [`Command::is_shared`]. Refused like [`Command::CreateEndpoint`].
    CreateRemoteEndpoint {
        /// The conference; must exist on this worker, too.
        conference: ConferenceId,
        /// Its identity.
        endpoint: EndpointId,
        /// The worker that it lives on.
        home: WorkerId,
    },
    /// Adds the connection to another bridge: it publishes for everybody behind it, and is given every source that is not of its
    /// own mesh, each packet once. Its id is one of an endpoint's: ICE, DTLS, SRTP, formats and expiry go by it as they do for
    /// an endpoint. Refused like [`Command::CreateEndpoint`].
    CreateRelay {
        /// Its identity and ICE; the label is the other bridge's relay id.
        new: Box<NewEndpoint>,
        /// The mesh that it belongs to.
        mesh: MeshId,
    },
    /// Announces a relay of the conference that lives on another worker: packets for it, and from those behind it, cross to and
    /// from there. Refused like [`Command::CreateEndpoint`].
    CreateRemoteRelay {
        /// The conference; must exist on this worker, too.
        conference: ConferenceId,
        /// Its identity.
        relay: EndpointId,
        /// The worker that it lives on.
        home: WorkerId,
        /// The mesh that it belongs to.
        mesh: MeshId,
    },
    /// Adds an endpoint of another bridge, which is behind a relay that this worker has, or that was announced to it. It has sources and formats,
    /// and neither keys nor an address. Refused like [`Command::CreateEndpoint`].
    CreateRelayedEndpoint {
        /// The conference; must exist on this worker, too.
        conference: ConferenceId,
        /// Its identity.
        endpoint: EndpointId,
        /// The relay that its packets come by.
        relay: EndpointId,
    },
    /// Removes an endpoint and its sources; with a relay go all endpoints behind it.
    ExpireEndpoint {
        /// The one that leaves.
        endpoint: EndpointId,
    },
    /// Sets the remote credentials and adds candidates; checks start as soon as credentials are known.
    SetRemoteIce {
        /// The endpoint whose client they belong to.
        endpoint: EndpointId,
        /// Remote credentials; `None` keeps those already set.
        credentials: Option<IceCredentials>,
        /// Candidates to add.
        candidates: Vec<RemoteCandidate>,
    },
    /// Begins an ICE restart in place: the endpoint is found under these credentials of ours, too, and what carries media goes
    /// on until a pair of the new ones is nominated. The same again changes nothing; a later number replaces what is under way.
    RestartIce {
        /// The endpoint whose connection is restarted.
        endpoint: EndpointId,
        /// Counts up from 1.
        generation: u32,
        /// Our new credentials. The ufrag starts with the worker's tag, like the first one.
        local: IceCredentials,
    },
    /// The endpoint's part of an ICE restart: checks start as soon as its credentials are known.
    AnswerIceRestart {
        /// The endpoint whose connection is restarted.
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
        /// The endpoint that they were negotiated with.
        endpoint: EndpointId,
        /// The keys.
        keys: Box<SrtpKeys>,
    },
    /// Sends one DTLS datagram on the selected pair.
    SendDtls {
        /// The endpoint that it goes to.
        endpoint: EndpointId,
        /// The datagram, at most 1,500 bytes.
        datagram: Vec<u8>,
    },
    /// Replaces formats and header extensions.
    SetMedia {
        /// The endpoint that negotiated them.
        endpoint: EndpointId,
        /// The new value.
        media: Box<Media>,
    },
    /// Replaces the set of sources that the endpoint publishes.
    SetSources {
        /// The endpoint that publishes them.
        endpoint: EndpointId,
        /// The complete new set.
        sources: Vec<SourceDescription>,
    },
    /// Replaces what the endpoint wants to receive.
    SetConstraints {
        /// The receiver.
        endpoint: EndpointId,
        /// The new value.
        constraints: Box<ReceiverConstraints>,
    },
    /// Gives the endpoint everything on a bounded set of the bridge's own SSRCs (docs/protocol/bridge.md 6.6). Once, before
    /// its keys.
    SetSsrcRewriting {
        /// The receiver.
        endpoint: EndpointId,
        /// How many SSRCs it gets, and how they are numbered.
        rewriting: SsrcRewriting,
    },
    /// What its SSRCs carry was signalled to its client: packets may go.
    MappingsSignalled {
        /// The receiver.
        endpoint: EndpointId,
        /// The number of the newest [`super::Event::SourcesMapped`] that was signalled to it.
        announcement: u64,
    },
    /// Replaces the list of others' sources that were not signalled to the endpoint's client yet: nothing of them goes to it before.
    /// Without effect where its SSRCs are rewritten: there [`Command::MappingsSignalled`] says the same.
    SetUnsignalled {
        /// The receiver.
        endpoint: EndpointId,
        /// Their names.
        sources: Vec<String>,
    },
    /// Drops the endpoint's audio or video at the input.
    SetForceMute {
        /// The sender that is muted.
        endpoint: EndpointId,
        /// Drop audio.
        audio: bool,
        /// Drop video.
        video: bool,
    },
    /// What those behind a relay want of one source (relay channel `AddReceiver`). It may come before the source does.
    SetRelayDemand {
        /// The relay that asks.
        relay: EndpointId,
        /// The owner of the source.
        endpoint: EndpointId,
        /// Source name.
        source: String,
        /// Pixels; off where nobody there wants it.
        max_height: Limit,
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
    /// Opens sockets for one endpoint alone, before it is created: its ICE uses only them. They are closed when it expires or is
    /// refused, which it is when one of them cannot be opened.
    // The last one: serde numbers those that it reads without the skipped ones, and those that it writes with them.
    #[serde(skip)]
    OpenSockets {
        /// The endpoint that is created next.
        endpoint: EndpointId,
        /// Bound, one for each local address; [`crate::io::RelayPorts`] makes them.
        sockets: Vec<HandedSocket>,
    },
}

impl Command {
    /// Whether it goes to every worker that takes part in the endpoint's conference, and not only to the endpoint's home.
    pub fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::SetMedia { .. }
                | Self::SetSources { .. }
                | Self::ExpireEndpoint { .. }
                | Self::CreateRelayedEndpoint { .. }
        )
    }

    /// The endpoint that it is about, if it is about one.
    pub fn endpoint(&self) -> Option<EndpointId> {
        match self {
            Self::CreateEndpoint(new) | Self::CreateRelay { new, .. } => Some(new.endpoint),
            Self::CreateRemoteRelay { relay, .. } | Self::SetRelayDemand { relay, .. } => Some(*relay),
            Self::OpenSockets { endpoint, .. }
            | Self::CreateRemoteEndpoint { endpoint, .. }
            | Self::CreateRelayedEndpoint { endpoint, .. }
            | Self::ExpireEndpoint { endpoint }
            | Self::SetRemoteIce { endpoint, .. }
            | Self::RestartIce { endpoint, .. }
            | Self::AnswerIceRestart { endpoint, .. }
            | Self::SetSrtp { endpoint, .. }
            | Self::SendDtls { endpoint, .. }
            | Self::SetMedia { endpoint, .. }
            | Self::SetSources { endpoint, .. }
            | Self::SetConstraints { endpoint, .. }
            | Self::SetSsrcRewriting { endpoint, .. }
            | Self::MappingsSignalled { endpoint, .. }
            | Self::SetUnsignalled { endpoint, .. }
            | Self::SetForceMute { endpoint, .. } => Some(*endpoint),
            Self::CreateConference { .. } | Self::ExpireConference { .. } | Self::AskServer { .. } | Self::Shutdown => {
                None
            }
        }
    }

    /// Whether it is about what an endpoint sends and receives, once it exists.
    pub(crate) fn is_of_media(&self) -> bool {
        matches!(
            self,
            Self::SetSrtp { .. }
                | Self::SetMedia { .. }
                | Self::SetSources { .. }
                | Self::SetConstraints { .. }
                | Self::SetSsrcRewriting { .. }
                | Self::MappingsSignalled { .. }
                | Self::SetUnsignalled { .. }
                | Self::SetForceMute { .. }
                | Self::SetRelayDemand { .. }
        )
    }
}

/// SSRCs that the bridge itself uses as RTCP sender in one conference (colibri2 `<sources>`, `jvb-a0` and `jvb-v0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackSsrcs {
    /// Signalled as `jvb-a0`.
    pub audio: Ssrc,
    /// Signalled as `jvb-v0`; sender SSRC of all RTCP that the bridge originates.
    pub video: Ssrc,
}

/// A new endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// How many SSRCs of the bridge's own an endpoint gets everything on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SsrcRewriting {
    /// Most SSRCs of audio.
    #[serde(with = "crate::carry::checked")]
    pub audio: usize,
    /// Most pairs of SSRCs of video, media and retransmission.
    #[serde(with = "crate::carry::checked")]
    pub video: usize,
    /// Where the numbers come from; any value.
    pub seed: u64,
    /// Packets carry the media section id of their SSRCs, where the receiver negotiated that.
    pub mids: bool,
}
