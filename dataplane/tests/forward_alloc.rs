//! Steady-state forwarding allocates nothing: one sender of audio and video, ten receivers, on one worker or on two.

mod forward_call;
mod relay_call;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forward_call::{
    CONFERENCE, Camera, FEEDBACK, JICOFO, OTHER, audio_source, context, keys, packet, path, video_source,
    with_extension,
};
use ringbridge_dataplane::conference::{Forwarder, ForwarderConfig};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{EndpointId, MeshId, Ssrc, WorkerId};
use ringbridge_dataplane::io::{MAX_DATAGRAM, PacketSink, Path};
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::{Command, Event, NewEndpoint, SsrcRewriting};
use ringbridge_dataplane::rtcp::TwccRecorder;
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use webrtc_util::marshal::Marshal;

/// Packets of the first steps that are not forwarded before clients know what their SSRCs carry: one of audio, and the
/// first keyframe with what follows it.
const UNSIGNALLED: u64 = 301;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn note() {
    let _ = COUNT.try_with(|c| c.set(c.get().map(|n| n + 1)));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts datagrams and forgets them.
struct Sink {
    buffer: [u8; MAX_DATAGRAM],
    committed: u64,
}

impl PacketSink for Sink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn commit(&mut self, _len: usize, _path: Path) {
        self.committed += 1;
    }
}

#[test]
fn steady_state_allocates_nothing() {
    steady_state(1, false);
}

/// A receiver reports what became of its packets. What it is allocated is decided anew once a second at least, between
/// packets; that may allocate.
#[test]
fn feedback_allocates_nothing() {
    steady_state(1, true);
}

/// Receivers that get everything on SSRCs of the bridge's own.
#[test]
fn ssrc_rewriting_allocates_nothing() {
    steady_state_with(1, false, true);
}

#[test]
fn crossing_to_another_worker_allocates_nothing() {
    steady_state(2, false);
}

fn steady_state(workers: usize, feedback: bool) {
    steady_state_with(workers, feedback, false);
}

fn steady_state_with(workers: usize, feedback: bool, rewriting: bool) {
    let stats: Vec<Arc<WorkerStats>> = (0..workers).map(|_| Arc::default()).collect();
    let mut forwarders = Forwarder::connected(&ForwarderConfig::default(), &stats, 64).unwrap();
    let mut now = Instant::now();
    for n in 0..11u8 {
        let endpoint = EndpointId(u32::from(n));
        let home = usize::from(n) % workers;
        for (worker, forwarder) in forwarders.iter_mut().enumerate() {
            forwarder.handle_command(now, Command::CreateConference { conference: CONFERENCE, feedback: FEEDBACK });
            if worker == home {
                let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
                let new =
                    NewEndpoint { conference: CONFERENCE, endpoint, label: String::new(), ice, controlling: true };
                forwarder.handle_command(now, Command::CreateEndpoint(Box::new(new)));
                if rewriting {
                    let rewriting = SsrcRewriting { audio: 1, video: 1, seed: 1, mids: true };
                    forwarder.handle_command(now, Command::SetSsrcRewriting { endpoint, rewriting });
                }
                forwarder.handle_command(now, Command::SetSrtp { endpoint, keys: Box::new(keys(n)) });
                forwarder.set_path(endpoint, Some(path(usize::from(n))));
            } else {
                let remote = Command::CreateRemoteEndpoint {
                    conference: CONFERENCE,
                    endpoint,
                    home: WorkerId::from_index(home),
                };
                forwarder.handle_command(now, remote);
            }
            let media = if n % 2 == 0 { JICOFO.media() } else { OTHER.media() };
            forwarder.handle_command(now, Command::SetMedia { endpoint, media: Box::new(media) });
            let sources =
                if n == 0 { vec![audio_source("a-a0", 10), video_source("a-v0", &[11, 12])] } else { Vec::new() };
            forwarder.handle_command(now, Command::SetSources { endpoint, sources });
        }
    }
    let mut sink = Sink { buffer: [0; MAX_DATAGRAM], committed: 0 };
    forwarders.iter_mut().for_each(|f| f.handle_timeout(now, &mut sink));
    let slot = forwarders[0].slot(EndpointId(0)).unwrap();
    let mut client = context(&keys(0).inbound);
    let mut low = Camera::new(100, 11, 1, 180);
    let mut high = Camera::new(100, 12, 1, 360);
    let mut transport = 0u16;
    let (mut recorder, mut numbered) = (TwccRecorder::default(), 0u16);
    let mut receiver = context(&keys(1).inbound);
    let receiver_slot = forwarders[1 % workers].slot(EndpointId(1)).unwrap();
    let mut measured = 0;
    // With rewriting video begins at step 100; two seconds later the bridge knows that nobody sends feedback.
    let steady = if rewriting { 300 } else { 200 };
    for i in 0..600u16 {
        // Loss now and then, so that NACKs go out; each step is one audio and six video packets.
        let mut packets = low.frame(i % 100 == 0, 3);
        packets.extend(high.frame(i % 100 == 0, 3));
        if i % 50 == 49 {
            packets.remove(4);
        }
        let level = if i % 10 == 9 { 90 } else { 30 };
        let audio = packet(111, i, 960 * u32::from(i), 10, &[3; 80]);
        packets.push(with_extension(audio, JICOFO.level, &[level]));
        for p in packets {
            transport = transport.wrapping_add(1);
            let p = with_extension(p, JICOFO.tcc, &transport.to_be_bytes());
            let mut datagram = client.encrypt_rtp(&p.marshal().unwrap()).unwrap().to_vec();
            if i >= steady {
                COUNT.set(Some(0));
            }
            forwarders[0].handle_rtp(now, slot, &mut datagram, &mut sink);
            forwarders.iter_mut().for_each(|f| f.handle_peers(now, &mut sink));
            measured += COUNT.take().unwrap_or(0);
        }
        let mut report = [0; 1_200];
        for _ in 0..if feedback { 3 } else { 0 } {
            numbered += 1;
            recorder.record(now, numbered, false);
        }
        while let Some(len) = recorder.take_feedback(now, Ssrc::new(1), Ssrc::new(11), &mut report) {
            let mut datagram = receiver.encrypt_rtcp(&report[..len]).unwrap().to_vec();
            if i >= steady {
                COUNT.set(Some(0));
            }
            forwarders[0].handle_rtcp(now, receiver_slot, &mut datagram, &mut sink);
            measured += COUNT.take().unwrap_or(0);
        }
        now += Duration::from_millis(20);
        if i >= steady && !feedback {
            COUNT.set(Some(0));
        }
        forwarders.iter_mut().for_each(|f| f.handle_timeout(now, &mut sink));
        measured += COUNT.take().unwrap_or(0);
        for forwarder in &mut forwarders {
            while let Some(event) = forwarder.poll_event() {
                if let Event::SourcesMapped { endpoint, announcement, .. } = event {
                    forwarder.handle_command(now, Command::MappingsSignalled { endpoint, announcement });
                }
            }
        }
    }
    let count = |counter| stats.iter().map(|s| s.get(counter)).sum::<u64>();
    // With rewriting, what came before the mappings were signalled does not count.
    assert_eq!(count(Counter::PacketsForwarded), (600 * 4 - if rewriting { UNSIGNALLED } else { 0 }) * 10);
    let reports = if feedback { 100..121 } else { 0..1 };
    assert!(reports.contains(&count(Counter::TransportFeedbackReceived)));
    // One packet of seven is lost every 50 steps.
    assert_eq!(count(Counter::CrossWorkerPackets), if workers == 1 { 0 } else { 600 * 7 - 12 });
    assert!(count(Counter::NackSent) > 0);
    assert!(sink.committed > (600 * 4 - UNSIGNALLED) * 10 + 100, "reports and feedback went out too");
    assert_eq!(measured, 0, "allocations after {steady} of 600 steps");
}

/// By one relay to another, of another mesh, and to receivers here; what the other bridge misses is repeated.
#[test]
fn relays_allocate_nothing() {
    let stats: Arc<WorkerStats> = Arc::default();
    let mut forwarder = Forwarder::new(ForwarderConfig::default(), Arc::clone(&stats));
    let mut now = Instant::now();
    let [from, to, behind] = [20, 21, 22].map(EndpointId);
    forwarder.handle_command(now, Command::CreateConference { conference: CONFERENCE, feedback: FEEDBACK });
    let ice = IceCredentials { ufrag: String::new(), pwd: String::new() };
    let media = Box::new(relay_call::relay_media(&JICOFO.media()));
    for (n, relay) in [(0, from), (1, to)] {
        let mesh = MeshId(n.into());
        let new = NewEndpoint {
            conference: CONFERENCE,
            endpoint: relay,
            label: String::new(),
            ice: ice.clone(),
            controlling: true,
        };
        forwarder.handle_command(now, Command::CreateRelay { new: Box::new(new), mesh });
        forwarder.handle_command(now, Command::SetSrtp { endpoint: relay, keys: Box::new(keys(n)) });
        forwarder.handle_command(now, Command::SetMedia { endpoint: relay, media: media.clone() });
        forwarder.set_path(relay, Some(path(usize::from(n))));
    }
    for n in 2..4u8 {
        let endpoint = EndpointId(n.into());
        let new =
            NewEndpoint { conference: CONFERENCE, endpoint, label: String::new(), ice: ice.clone(), controlling: true };
        forwarder.handle_command(now, Command::CreateEndpoint(Box::new(new)));
        forwarder.handle_command(now, Command::SetSrtp { endpoint, keys: Box::new(keys(n)) });
        forwarder.handle_command(now, Command::SetMedia { endpoint, media: Box::new(OTHER.media()) });
        forwarder.set_path(endpoint, Some(path(usize::from(n))));
    }
    let relayed = Command::CreateRelayedEndpoint { conference: CONFERENCE, endpoint: behind, relay: from };
    forwarder.handle_command(now, relayed);
    let sources = vec![audio_source("p-a0", 10), video_source("p-v0", &[11, 12])];
    forwarder.handle_command(now, Command::SetSources { endpoint: behind, sources });
    let (source, max_height) = ("p-v0".to_owned(), Limit::Unlimited);
    forwarder.handle_command(now, Command::SetRelayDemand { relay: to, endpoint: behind, source, max_height });
    let mut sink = Sink { buffer: [0; MAX_DATAGRAM], committed: 0 };
    forwarder.handle_timeout(now, &mut sink);
    let [arrives, asks] = [from, to].map(|relay| forwarder.slot(relay).unwrap());
    let (mut peer, mut asking) = (context(&keys(0).inbound), context(&keys(1).inbound));
    let (mut low, mut high) = (Camera::new(100, 11, 1, 180), Camera::new(100, 12, 1, 360));
    let mut measured = 0;
    for i in 0..600u16 {
        let mut packets = low.frame(i % 100 == 0, 3);
        packets.extend(high.frame(i % 100 == 0, 3));
        if i % 50 == 49 {
            packets.remove(4);
        }
        packets.push(with_extension(packet(111, i, 960 * u32::from(i), 10, &[3; 80]), JICOFO.level, &[30]));
        for p in packets {
            let mut datagram = peer.encrypt_rtp(&p.marshal().unwrap()).unwrap().to_vec();
            COUNT.set((i >= 200).then_some(0));
            forwarder.handle_rtp(now, arrives, &mut datagram, &mut sink);
            measured += COUNT.take().unwrap_or(0);
        }
        let nacks = vec![NackPair { packet_id: low.sequence.wrapping_sub(2), lost_packets: 1 }];
        let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks };
        let mut datagram = asking.encrypt_rtcp(&nack.marshal().unwrap()).unwrap().to_vec();
        COUNT.set((i >= 200).then_some(0));
        forwarder.handle_rtcp(now, asks, &mut datagram, &mut sink);
        now += Duration::from_millis(20);
        forwarder.handle_timeout(now, &mut sink);
        measured += COUNT.take().unwrap_or(0);
        while forwarder.poll_event().is_some() {}
    }
    let sent = 600 * 7 - 12;
    assert_eq!(stats.get(Counter::RelayPacketsReceived), sent);
    // So many are asked for that they go twice from some time on, and the last packets of pictures with them.
    let repeated = stats.get(Counter::Retransmissions);
    assert_eq!((stats.get(Counter::RelayPacketsSent), stats.get(Counter::DropCannotRepeat)), (sent + repeated, 0));
    assert!((600 * 3..600 * 6).contains(&repeated), "{repeated}");
    assert!(stats.get(Counter::NackSent) > 0);
    assert_eq!(measured, 0, "allocations after 200 of 600 steps");
}
