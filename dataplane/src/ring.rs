//! The only way in and out of a worker: one command ring and one event ring each, never a lock.
//!
//! Both are wait-free SPSC rings (`rtrb`) with an eventfd for wake-up. A full command ring pushes back on the
//! control plane, which retries in order; a full event ring makes the worker coalesce or count, never wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ids::{ConferenceId, EndpointId};
use crate::media::{Media, ReceiverConstraints, SourceDescription};

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
/// unused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey {
    /// AES master key.
    pub key: [u8; 32],
    /// Master salt.
    pub salt: [u8; 14],
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Keys of one endpoint, exported from its DTLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Starts an empty conference on this worker.
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
    /// Adds an endpoint.
    CreateEndpoint(Box<NewEndpoint>),
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
    /// Drops the endpoint's audio or video at the input.
    SetForceMute {
        /// Whose.
        endpoint: EndpointId,
        /// Drop audio.
        audio: bool,
        /// Drop video.
        video: bool,
    },
    /// Ends the worker's loop after what is queued before it.
    Shutdown,
}

/// State of an endpoint's ICE session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceState {
    /// A pair is valid: DTLS may start.
    Connected,
    /// Consent was lost (RFC 7675) or no pair became valid; nothing is sent any more. May become connected again.
    Disconnected,
}

/// Worker to control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// ICE changed its state.
    Ice {
        /// Whose.
        endpoint: EndpointId,
        /// The new state.
        state: IceState,
        /// Remote address of the selected pair, when connected.
        remote: Option<SocketAddr>,
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
    /// The dominant speaker of a conference changed.
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
    /// The largest height that any receiver wants of a source changed (bridge channel `SenderSourceConstraints`).
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
        self.0.store(false, Ordering::Release);
    }
}
