//! DTLS sessions against each other and against `dtls` (webrtc-rs), an independent implementation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use dtls::conn::DTLSConn;
use dtls::crypto::Certificate as PeerCertificate;
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_controlplane::transport::{Certificate, DtlsError, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::srtp::{SrtpKeys, SrtpProfile};
use webrtc_util::KeyingMaterialExporter;
use webrtc_util::conn::Conn;

fn fingerprint_of(certificate: &Certificate) -> Vec<Fingerprint> {
    vec![Fingerprint { hash: "sha-256".into(), value: certificate.fingerprint().to_owned() }]
}

/// Changes datagrams on their way.
type Damage = Box<dyn FnMut(&mut Vec<u8>)>;

struct Pair {
    now: Instant,
    sides: [DtlsSession; 2],
    keys: [Option<SrtpKeys>; 2],
    errors: [Option<DtlsError>; 2],
    damage: Option<Damage>,
}

impl Pair {
    fn new(server_expects: impl Fn(&Certificate) -> Vec<Fingerprint>) -> Self {
        let now = Instant::now();
        let (a, b) = (Certificate::generate().expect("a"), Certificate::generate().expect("b"));
        let client = DtlsSession::new(now, &a, DtlsRole::Client, fingerprint_of(&b)).expect("client");
        let server = DtlsSession::new(now, &b, DtlsRole::Server, server_expects(&a)).expect("server");
        Self { now, sides: [client, server], keys: [None, None], errors: [None, None], damage: None }
    }

    /// Runs in virtual time until both are done; `lost` decides over each datagram.
    fn run(&mut self, mut lost: impl FnMut() -> bool) {
        self.run_over(|| if lost() { Vec::new() } else { vec![Duration::ZERO] });
    }

    /// The same where `delays` gives, for each datagram, when after its sending each of its copies arrives; returns how many were sent.
    fn run_over(&mut self, mut delays: impl FnMut() -> Vec<Duration>) -> usize {
        let end = self.now + Duration::from_secs(31);
        let (mut sent, mut under_way) = (0, Vec::<(Instant, usize, Vec<u8>)>::new());
        while self.now < end {
            for side in 0..2 {
                while let Some(output) = self.sides[side].poll_output() {
                    match output {
                        DtlsOutput::Datagram(mut datagram) => {
                            assert!(datagram.len() <= 1_200, "{} bytes do not fit", datagram.len());
                            if let Some(damage) = &mut self.damage {
                                damage(&mut datagram);
                            }
                            sent += 1;
                            let arrivals = delays().into_iter().map(|delay| self.now + delay);
                            under_way.extend(arrivals.map(|at| (at, 1 - side, datagram.clone())));
                        }
                        DtlsOutput::Connected(keys) => self.keys[side] = Some(keys),
                        DtlsOutput::Failed(error) => self.errors[side] = Some(error),
                        DtlsOutput::ApplicationData(_) => {}
                    }
                }
            }
            if self.keys.iter().all(Option::is_some) {
                break;
            }
            let arrival = under_way.iter().map(|(at, ..)| *at).min();
            // Time goes on, whatever a timer says.
            let soonest = self.now + Duration::from_millis(1);
            let timer = self.sides.iter().filter_map(DtlsSession::poll_timeout).min().map(|at| at.max(soonest));
            let Some(next) = arrival.into_iter().chain(timer).min() else { break };
            self.now = next;
            let mut arrived: Vec<_> = under_way.extract_if(.., |(at, ..)| *at <= self.now).collect();
            arrived.sort_by_key(|(at, ..)| *at);
            arrived.iter().for_each(|(_, side, datagram)| self.sides[*side].handle_datagram(self.now, datagram));
            let due = self.sides.iter_mut().filter(|side| side.poll_timeout().is_some_and(|at| at <= self.now));
            due.for_each(|side| side.handle_timeout(self.now));
        }
        sent
    }
}

/// By satellite every flight is sent again before its answer can have come; a network may deliver datagrams twice, or in another order.
#[test]
fn slow_and_strange_ways_are_survived_without_a_storm() {
    // Milliseconds of one way, at least and at most; copies; datagrams that both sides send at most.
    for (delays, copies, most) in [
        (1..=1, 1, 4),
        (1..=1, 5, 20),
        (130..=130, 1, 8),
        (300..=300, 2, 20),
        (700..=700, 1, 20),
        (1_500..=1_500, 1, 20),
        (1..=400, 2, 30),
    ] {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..20 {
            let mut pair = Pair::new(fingerprint_of);
            let start = pair.now;
            let sent = pair
                .run_over(|| (0..copies).map(|_| Duration::from_millis(random.random_range(delays.clone()))).collect());
            let took = pair.now - start;
            assert!(pair.keys.iter().all(Option::is_some), "{delays:?} ms, {copies}: {took:?}, {:?}", pair.errors);
            assert!(sent <= most, "{delays:?} ms, {copies}: {sent} datagrams in {took:?}");
            assert!(took <= Duration::from_millis(6 * delays.end() + 300), "{delays:?} ms, {copies}: {took:?}");
        }
    }
}

#[test]
fn both_sides_get_the_same_keys_crosswise() {
    let mut pair = Pair::new(fingerprint_of);
    pair.run(|| false);
    let (client, server) = (pair.keys[0].clone().expect("client"), pair.keys[1].clone().expect("server"));
    assert_eq!(client.inbound, server.outbound);
    assert_eq!(client.outbound, server.inbound);
    assert_ne!(client.inbound, client.outbound);
}

#[test]
fn a_wrong_fingerprint_gives_no_keys() {
    let mut pair = Pair::new(|_| vec![Fingerprint { hash: "sha-256".into(), value: "00:11:22".into() }]);
    pair.run(|| false);
    assert!(matches!(pair.errors[1], Some(DtlsError::FingerprintMismatch { .. })), "{:?}", pair.errors);
    assert_eq!(pair.keys[1], None);
}

#[test]
fn silence_ends_after_thirty_seconds() {
    let mut pair = Pair::new(fingerprint_of);
    pair.run(|| true);
    assert_eq!(pair.errors[1], Some(DtlsError::Timeout));
    assert_eq!(pair.keys, [None, None]);
}

/// Loses datagrams with a probability of one fifth, by a seed.
fn one_in_five(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33).is_multiple_of(5)
    }
}

#[test]
fn twenty_percent_loss_is_survived() {
    let mut failed = Vec::new();
    let mut durations: Vec<Duration> = Vec::new();
    for seed in 0..200u64 {
        let mut pair = Pair::new(fingerprint_of);
        let start = pair.now;
        pair.run(one_in_five(seed));
        durations.push(pair.now - start);
        if pair.keys.iter().any(Option::is_none) {
            failed.push((seed, pair.errors));
        }
    }
    // Waiting times are random, so that a seed does not fix what is lost: now and then a flight is, until the 30 s are over.
    assert!(failed.len() <= 2, "{failed:?}");
    durations.sort();
    let [half, most, slowest] = [100, 190, 199].map(|rank| durations[rank]);
    println!("200 handshakes with 20 % loss, virtual time: p50 {half:?}, p95 {most:?}, slowest {slowest:?}");
}

/// How the oracle is set up.
struct Oracle {
    profiles: Vec<SrtpProtectionProfile>,
    with_certificate: bool,
    /// Largest datagram that it sends; larger handshake messages are fragmented.
    mtu: usize,
    /// Loses one datagram in five, either way, by this seed.
    loss: Option<u64>,
}

impl Default for Oracle {
    fn default() -> Self {
        let profiles = vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
        Self { profiles, with_certificate: true, mtu: 1_200, loss: None }
    }
}

/// A real `dtls` connection over loopback UDP against our session of this role; returns both sides' keys.
async fn against_oracle(role: DtlsRole, oracle: Oracle) -> (Result<SrtpKeys, DtlsError>, Option<Vec<u8>>) {
    let mut lose = oracle.loss.map(one_in_five);
    let mut lost = move || lose.as_mut().is_some_and(|lose| lose());
    let ours = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("socket"));
    let theirs = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    ours.connect(theirs.local_addr().expect("address")).await.expect("connect");
    theirs.connect(ours.local_addr().expect("address")).await.expect("connect");
    let peer = PeerCertificate::generate_self_signed(vec!["peer".to_owned()]).expect("certificate");
    let fingerprint = {
        use ring::digest;
        let digest = digest::digest(&digest::SHA256, &peer.certificate[0]);
        digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    };
    let config = Config {
        certificates: if oracle.with_certificate { vec![peer] } else { vec![] },
        srtp_protection_profiles: oracle.profiles,
        mtu: oracle.mtu,
        // As browsers do; its default is one second.
        flight_interval: Duration::from_millis(50),
        insecure_skip_verify: true,
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Require,
        ..Default::default()
    };
    let client = role == DtlsRole::Server;
    let (finish, done) = tokio::sync::oneshot::channel::<()>();
    let theirs: Arc<dyn Conn + Send + Sync> = Arc::new(theirs);
    let peer = tokio::spawn(async move {
        let conn = DTLSConn::new(theirs, config, client, None).await.ok()?;
        let state = conn.connection_state().await;
        let len = match conn.selected_srtpprotection_profile() {
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => 60,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => 56,
            _ => 88,
        };
        let exported = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], len).await.ok();
        // Our side may still need its last flight answered, so the connection stays until the caller is done.
        let _ = done.await;
        exported
    });
    let certificate = Certificate::generate().expect("certificate");
    let fingerprints = vec![Fingerprint { hash: "sha-256".into(), value: fingerprint }];
    let mut session = DtlsSession::new(Instant::now(), &certificate, role, fingerprints).expect("session");
    let mut buffer = [0; 2_048];
    let result = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            while let Some(output) = session.poll_output() {
                match output {
                    DtlsOutput::Datagram(_) if lost() => {}
                    DtlsOutput::Datagram(datagram) => drop(ours.send(&datagram).await),
                    DtlsOutput::Connected(keys) => return Ok(keys),
                    DtlsOutput::Failed(error) => return Err(error),
                    DtlsOutput::ApplicationData(_) => {}
                }
            }
            let wait = session.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                received = ours.recv(&mut buffer) => match received {
                    Ok(_) if lost() => {}
                    Ok(len) => session.handle_datagram(Instant::now(), &buffer[..len]),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                () = tokio::time::sleep_until(wait.into()) => session.handle_timeout(Instant::now()),
            }
        }
    })
    .await
    .unwrap_or(Err(DtlsError::Timeout));
    // Ours is done first where the last flight is ours: the other may still wait for what was lost.
    let finished = async {
        let mut wait = Instant::now();
        loop {
            while let Some(output) = session.poll_output() {
                if let DtlsOutput::Datagram(datagram) = output {
                    drop(ours.send(&datagram).await);
                }
            }
            if let Ok(len) = ours.recv(&mut buffer).await {
                session.handle_datagram(Instant::now().max(wait), &buffer[..len]);
            }
            wait = Instant::now();
        }
    };
    let finish = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = finish.send(());
        peer.await.ok().flatten()
    };
    match &result {
        Ok(_) => tokio::select! {
            () = finished => unreachable!("runs for ever"),
            exported = tokio::time::timeout(Duration::from_secs(10), finish) => (result, exported.ok().flatten()),
        },
        Err(_) => (result, None),
    }
}

#[tokio::test]
async fn the_oracle_agrees_in_both_roles_and_with_both_profiles() {
    let cases = [
        (SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProfile::AeadAes128Gcm),
        (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, SrtpProfile::Aes128CmHmacSha1_80),
    ];
    for role in [DtlsRole::Server, DtlsRole::Client] {
        for (offered, expected) in cases {
            let (keys, exported) = against_oracle(role, Oracle { profiles: vec![offered], ..Oracle::default() }).await;
            let keys = keys.unwrap_or_else(|error| panic!("{role:?} {expected:?}: {error}"));
            let exported = exported.expect("the oracle connected");
            assert_eq!(keys.profile, expected);
            let len = expected.key_len();
            let (client, server) = match role {
                DtlsRole::Server => (keys.inbound, keys.outbound),
                DtlsRole::Client => (keys.outbound, keys.inbound),
            };
            assert_eq!(client.key[..len], exported[..len], "{role:?} {expected:?}");
            assert_eq!(server.key[..len], exported[len..2 * len], "{role:?} {expected:?}");
            let salt = expected.salt_len();
            assert_eq!(client.salt[..salt], exported[2 * len..2 * len + salt]);
        }
    }
}

#[tokio::test]
async fn ours_is_the_choice_of_profile() {
    let both = vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
    let (keys, _) = against_oracle(DtlsRole::Server, Oracle { profiles: both, ..Oracle::default() }).await;
    assert_eq!(keys.expect("connects").profile, SrtpProfile::AeadAes128Gcm, "not the client's first");
}

#[tokio::test]
async fn fragmented_handshake_messages_are_joined() {
    for role in [DtlsRole::Server, DtlsRole::Client] {
        let (keys, exported) = against_oracle(role, Oracle { mtu: 150, ..Oracle::default() }).await;
        let (keys, exported) = (keys.expect("connects"), exported.expect("the oracle connects"));
        let client = if role == DtlsRole::Server { keys.inbound } else { keys.outbound };
        assert_eq!(client.key[..16], exported[..16], "{role:?}");
    }
}

#[tokio::test]
async fn twenty_percent_loss_against_the_oracle() {
    let handshakes = (0..24u64).map(|seed| async move {
        // The other role is left out: `dtls` as server never repeats its last flight when it was lost.
        let role = DtlsRole::Server;
        let start = Instant::now();
        let (keys, _) = against_oracle(role, Oracle { loss: Some(seed), ..Oracle::default() }).await;
        assert!(keys.is_ok(), "seed {seed}, {role:?}: {keys:?}");
        start.elapsed()
    });
    let mut durations = futures::future::join_all(handshakes).await;
    durations.sort();
    println!("24 handshakes against dtls with 20 % loss: p50 {:?}, slowest {:?}", durations[12], durations[23]);
}

#[tokio::test]
async fn a_client_without_certificate_gets_no_keys() {
    let (result, _) = against_oracle(DtlsRole::Server, Oracle { with_certificate: false, ..Oracle::default() }).await;
    assert_eq!(result, Err(DtlsError::NoPeerCertificate));
}

/// Datagrams that are cut or changed on the way: the handshake may fail, but never with two ideas of the keys.
/// The first bytes of a ClientHello that is longer, in a plaintext record, with these numbers.
fn fragment(record: u16, message: u16) -> Vec<u8> {
    let body = [0xfe; 100];
    // Handshake: client_hello, length 1,000, message_seq, fragment_offset 0, fragment_length (RFC 6347 section 4.2.2).
    let mut handshake = vec![1, 0, 3, 0xe8, (message >> 8) as u8, message as u8, 0, 0, 0, 0, 0, body.len() as u8];
    handshake.extend_from_slice(&body);
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, (record >> 8) as u8, record as u8];
    datagram.extend_from_slice(&(handshake.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&handshake);
    datagram
}

/// Before the handshake they may at most keep it from happening; after it, others could forge them.
#[test]
fn fragments_without_end_are_left_out() {
    let mut pair = Pair::new(fingerprint_of);
    for n in 0..20_000 {
        pair.sides[1].handle_datagram(pair.now, &fragment(n, n));
    }
    assert!(!matches!(pair.sides[1].poll_output(), Some(DtlsOutput::Failed(_))), "that is no failure");
    let start = pair.now;
    pair.run(|| false);
    assert!(matches!(pair.errors[1], None | Some(DtlsError::Timeout)), "{:?}", pair.errors);
    println!("after 20,000 fragments: {:?} after {:?}", pair.errors[1], pair.now - start);

    let mut pair = Pair::new(fingerprint_of);
    pair.run(|| false);
    assert!(pair.keys.iter().all(Option::is_some));
    for n in 0..20_000 {
        pair.sides[1].handle_datagram(pair.now, &fragment(n, n));
    }
    pair.sides[0].send(pair.now, b"still there");
    let mut received = None;
    for _ in 0..4 {
        for side in 0..2 {
            while let Some(output) = pair.sides[side].poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => pair.sides[1 - side].handle_datagram(pair.now, &datagram),
                    DtlsOutput::ApplicationData(data) if side == 1 => received = Some(data),
                    DtlsOutput::Failed(error) => panic!("side {side}: {error}"),
                    _ => {}
                }
            }
        }
    }
    assert_eq!(received.as_deref(), Some(&b"still there"[..]));
}

#[test]
fn damaged_records_never_give_different_keys() {
    let mut connected = 0;
    for seed in 0..100u64 {
        let mut pair = Pair::new(fingerprint_of);
        let mut random = StdRng::seed_from_u64(seed);
        pair.damage = Some(Box::new(move |datagram: &mut Vec<u8>| {
            let at = random.random_range(0..datagram.len());
            match random.random_range(0..30) {
                0 => datagram.truncate(at),
                1 => datagram[at] ^= 1 << random.random_range(0..8),
                _ => {}
            }
        }));
        pair.run(|| false);
        if let [Some(client), Some(server)] = &pair.keys {
            connected += 1;
            assert_eq!((&client.inbound, &client.outbound), (&server.outbound, &server.inbound), "seed {seed}");
        }
    }
    assert!((20..=100).contains(&connected), "{connected} of 100 connected");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics_and_gives_no_keys(datagrams in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let now = Instant::now();
        let certificate = Certificate::generate().expect("certificate");
        let mut session = DtlsSession::new(now, &certificate, DtlsRole::Server, fingerprint_of(&certificate)).expect("session");
        for mut datagram in datagrams {
            if let Some(first) = datagram.first_mut() {
                *first = 20 + *first % 44;
            }
            session.handle_datagram(now, &datagram);
        }
        while let Some(output) = session.poll_output() {
            prop_assert!(!matches!(output, DtlsOutput::Connected(_)));
        }
    }
}
