//! Suites of forwarding and of relays once more, where another forwarder or engine takes over after every step: what is not carried, or
//! carried wrongly, is seen as what it breaks. Packets for retransmission are left behind, and so are the suites about them.
// Each suite brings its own copy of the call, as it does alone.
#![allow(clippy::duplicate_mod)]

mod forward_call;
#[path = "forward_handover/hostile.rs"]
mod hostile;
#[path = "forward_handover/meeting.rs"]
mod meeting;

#[path = "forward_control.rs"]
mod control;
#[path = "forward_layers.rs"]
mod layers;
#[path = "relay_members.rs"]
mod relay_members;
#[path = "relay_ports.rs"]
mod relay_ports;
#[path = "forward_rewrite.rs"]
mod rewrite;
#[path = "forward_ssrc_rewriting.rs"]
mod ssrc_rewriting;

use forward_call::*;
use ringbridge_dataplane::stats::Counter;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

#[test]
fn what_went_out_before_a_hand_over_is_counted_when_it_is_asked_for_and_what_went_out_after_is_sent_again() {
    let mut call = Call::new();
    call.stay();
    call.join(JICOFO.media(), vec![video_source("a-v0", &[11])]);
    call.join(OTHER.media(), Vec::new());
    call.want(1, 180);
    let mut camera = Camera::new(JICOFO.vp8, 11, 65_530, 180);
    let nack = |call: &mut Call, packet: &RtpPacket| {
        let nacks = vec![NackPair { packet_id: packet.header.sequence_number, lost_packets: 0 }];
        call.millis(50);
        call.send_rtcp(1, &TransportLayerNack { sender_ssrc: 1, media_ssrc: 11, nacks });
        call.clients[1].take_rtp()
    };
    let (mut sent, mut repeated) = (Vec::new(), Vec::new());
    for hand_overs in 0..10 {
        for n in 0..4 {
            call.send(0, &camera.one(hand_overs == 0 && n == 0));
            call.millis(30);
        }
        sent = call.clients[1].take_rtp();
        assert_eq!(sent.len(), 4);
        repeated.extend(nack(&mut call, &sent[2]));
        assert_eq!(
            repeated.len(),
            hand_overs + 1,
            "{:?}",
            Counter::ALL.iter().map(|c| (c, call.count(*c))).filter(|c| c.1 > 0).collect::<Vec<_>>()
        );
        call.hand_over();
        assert!(nack(&mut call, &sent[1]).is_empty());
        assert_eq!(call.count(Counter::NackCacheMiss), hand_overs as u64 + 1);
    }
    for pair in repeated.windows(2) {
        let [before, after] = [&pair[0].header, &pair[1].header];
        assert_eq!((after.ssrc, after.sequence_number), (1011, before.sequence_number.wrapping_add(1)));
    }
    assert!(sent.iter().all(|packet| packet.header.ssrc == 11));
}
