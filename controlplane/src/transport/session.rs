//! One endpoint's DTLS session: datagrams and the time in, datagrams and SRTP keys out. No I/O.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, Output};
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys, SrtpProfile};

use super::certificate::{self, Certificate, Fingerprint};
use super::crypto;
use super::error::DtlsError;

/// Largest datagram that we send, bytes.
const MTU: usize = 1_200;

/// A handshake that takes longer has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// First wait before a flight is sent again; doubles each time. Above the round trip of nearly everybody, far below
/// the second that RFC 6347 names for networks in general.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(250);

/// How often a flight is sent again. The library also takes one off for each repetition of the peer, and browsers begin
/// to repeat after 50 ms: the timeout of the handshake is what shall end it, not this.
const RETRIES: usize = 64;

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DtlsRole {
    /// We wait for the peer's ClientHello: its `setup` is `active`.
    Server,
    /// We start: its `setup` is `passive`.
    Client,
}

/// What a session wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum DtlsOutput {
    /// Send this datagram.
    Datagram(Vec<u8>),
    /// The handshake is done and the peer is who signalling said.
    Connected(SrtpKeys),
    /// Decrypted application data (SCTP).
    ApplicationData(Vec<u8>),
    /// It is over; nothing follows.
    Failed(DtlsError),
}

/// One DTLS session.
#[derive(Debug)]
pub struct DtlsSession {
    dtls: Dtls,
    role: DtlsRole,
    fingerprints: Vec<Fingerprint>,
    deadline: Option<Instant>,
    timer: Option<Instant>,
    verified: bool,
    connected: bool,
    keys: Option<SrtpKeys>,
    failed: bool,
    outputs: VecDeque<DtlsOutput>,
    buffer: Vec<u8>,
}

fn config() -> Result<Arc<Config>, DtlsError> {
    static CONFIG: OnceLock<Result<Arc<Config>, DtlsError>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            Config::builder()
                .with_crypto_provider(crypto::provider())
                .require_client_certificate(true)
                .mtu(MTU)
                .use_server_cookie(false)
                .flight_start_rto(RETRANSMIT_AFTER)
                .flight_retries(RETRIES)
                .handshake_timeout(HANDSHAKE_TIMEOUT)
                .build()
                .map(Arc::new)
                .map_err(|error| DtlsError::Configuration(error.to_string()))
        })
        .clone()
}

impl DtlsSession {
    /// A session that has not begun; `fingerprints` are those that signalling gave for the peer.
    pub fn new(
        now: Instant,
        certificate: &Certificate,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Self, DtlsError> {
        let mut dtls = Dtls::new_12(config()?, certificate.der.clone(), now);
        dtls.set_active(role == DtlsRole::Client);
        let mut session = Self {
            dtls,
            role,
            fingerprints,
            deadline: Some(now + HANDSHAKE_TIMEOUT),
            timer: None,
            verified: false,
            connected: false,
            keys: None,
            failed: false,
            outputs: VecDeque::new(),
            buffer: vec![0; 2_048],
        };
        session.handle_timeout(now);
        Ok(session)
    }

    /// Takes a datagram of the peer.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.step(now, Some(datagram));
    }

    /// Sends application data (an SCTP packet) once the handshake is done; before and after there is nobody to send to.
    pub fn send(&mut self, now: Instant, data: &[u8]) {
        if self.failed || !self.connected {
            return;
        }
        let sent = self.dtls.handle_timeout(now).and_then(|()| self.dtls.send_application_data(data));
        self.drain();
        if let Err(error) = sent {
            self.fail(DtlsError::Protocol(error.to_string()));
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step(now, None);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.failed { None } else { [self.timer, self.deadline].into_iter().flatten().min() }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DtlsOutput> {
        self.outputs.pop_front()
    }

    fn step(&mut self, now: Instant, datagram: Option<&[u8]>) {
        if self.failed {
            return;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.fail(DtlsError::Timeout);
        }
        let advanced = self.dtls.handle_timeout(now).and_then(|()| match datagram {
            // Fragments without end, also ones that others forge: left out, as RFC 6347 section 4.1.2.7 says of records
            // that are of no use, and the true ones come again.
            Some(datagram) => match self.dtls.handle_packet(datagram) {
                Err(dimpl::Error::ReceiveQueueFull) => Ok(()),
                other => other,
            },
            None => Ok(()),
        });
        // What the peer must hear of a failure is still sent.
        self.drain();
        if let Err(error) = advanced {
            self.fail(match error {
                dimpl::Error::Timeout(_) => DtlsError::Timeout,
                dimpl::Error::CertificateError(error) if !self.verified => {
                    tracing::debug!(%error, "the peer's certificate was refused");
                    DtlsError::NoPeerCertificate
                }
                other => DtlsError::Protocol(other.to_string()),
            });
        }
    }

    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while !self.failed {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => self.outputs.push_back(DtlsOutput::Datagram(datagram.to_vec())),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.timer = Some(at);
                    break;
                }
                Output::PeerCert(certificate) => match certificate::verify(certificate, &self.fingerprints) {
                    Ok(()) => self.verified = true,
                    Err(error) => self.fail(error),
                },
                Output::KeyingMaterial(material, profile) => match keys(&material, profile, self.role) {
                    Some(keys) => self.keys = Some(keys),
                    None => self.fail(DtlsError::NoSrtpProfile),
                },
                Output::Connected => self.connected = true,
                Output::ApplicationData(data) if self.verified => {
                    self.outputs.push_back(DtlsOutput::ApplicationData(data.to_vec()));
                }
                Output::CloseNotify => self.fail(DtlsError::Closed),
                _ => {}
            }
        }
        self.buffer = buffer;
        if self.connected && !self.failed && self.deadline.take().is_some() {
            // The order of the library's outputs is its own affair: judge only when it has said everything.
            match (self.verified, self.keys.take()) {
                (false, _) => self.fail(DtlsError::NoPeerCertificate),
                (true, None) => self.fail(DtlsError::NoSrtpProfile),
                (true, Some(keys)) => self.outputs.push_back(DtlsOutput::Connected(keys)),
            }
        }
    }

    fn fail(&mut self, error: DtlsError) {
        if !self.failed {
            self.failed = true;
            self.outputs.push_back(DtlsOutput::Failed(error));
        }
    }
}

/// Splits exported keying material (RFC 5764 section 4.2): client key, server key, client salt, server salt.
fn keys(material: &[u8], profile: dimpl::SrtpProfile, role: DtlsRole) -> Option<SrtpKeys> {
    let profile = match profile {
        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AeadAes256Gcm,
        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AeadAes128Gcm,
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmHmacSha1_80,
        _ => return None,
    };
    let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
    let (keys, salts) = material.get(..2 * (key_len + salt_len))?.split_at(2 * key_len);
    let master = |side: usize| {
        let mut master = MasterKey { key: [0; 32], salt: [0; 14] };
        master.key[..key_len].copy_from_slice(&keys[side * key_len..][..key_len]);
        master.salt[..salt_len].copy_from_slice(&salts[side * salt_len..][..salt_len]);
        master
    };
    let (client, server) = (master(0), master(1));
    Some(match role {
        DtlsRole::Server => SrtpKeys { profile, inbound: client, outbound: server },
        DtlsRole::Client => SrtpKeys { profile, inbound: server, outbound: client },
    })
}
