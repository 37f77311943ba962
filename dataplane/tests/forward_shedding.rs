//! A worker at its limit: some receivers' video stops and starts again at a keyframe, audio goes on.

mod forward_call;

use forward_call::*;
use ringbridge_dataplane::congestion::shedding::Shedding;
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

const RECEIVERS: usize = 16;

/// One sender of audio and video, sixteen receivers; a frame of two packets and an audio packet.
fn round(call: &mut Call, camera: &mut Camera, sequence: &mut u16, key: bool) {
    call.millis(20);
    for p in camera.frame(key, 2) {
        call.send(0, &p);
    }
    *sequence += 1;
    call.send(0, &packet(111, *sequence, 960 * u32::from(*sequence), 10, &[3; 80]));
}

#[test]
fn video_stops_for_some_and_audio_for_nobody() {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
    for _ in 0..RECEIVERS {
        call.join(JICOFO.media(), vec![]);
    }
    call.settle();
    let (mut camera, mut sequence) = (Camera::new(100, 11, 7, 180), 0);
    round(&mut call, &mut camera, &mut sequence, true);
    (0..9).for_each(|_| round(&mut call, &mut camera, &mut sequence, false));
    let count = |call: &mut Call| -> Vec<(usize, usize)> {
        let got = (1..=RECEIVERS).map(|client| call.clients[client].take_rtp());
        got.map(|got| {
            let audio = got.iter().filter(|p| p.header.ssrc == 10).count();
            (audio, got.len() - audio)
        })
        .collect()
    };
    assert_eq!(count(&mut call), [(10, 20); RECEIVERS]);

    call.forwarders[0].set_shedding(Shedding::at(6));
    (0..10).for_each(|_| round(&mut call, &mut camera, &mut sequence, false));
    let got = count(&mut call);
    assert!(got.iter().all(|(audio, _)| *audio == 10), "{got:?}");
    assert_eq!(got.iter().filter(|(_, video)| *video == 0).count(), 4, "{got:?}");
    assert_eq!(got.iter().filter(|(_, video)| *video == 20).count(), 12, "{got:?}");
    assert_eq!(call.count(Counter::DropShed), 4 * 20);

    // Room again: they ask for a keyframe, and get nothing undecodable before it.
    call.clients[0].take_rtcp::<PictureLossIndication>();
    call.forwarders[0].set_shedding(Shedding::default());
    (0..5).for_each(|_| round(&mut call, &mut camera, &mut sequence, false));
    assert_eq!(count(&mut call).iter().filter(|(_, video)| *video == 0).count(), 4);
    assert!(!call.clients[0].take_rtcp::<PictureLossIndication>().is_empty());
    round(&mut call, &mut camera, &mut sequence, true);
    assert_eq!(count(&mut call), [(1, 2); RECEIVERS]);
}
