//! Media waits until its source was signalled to the receiver's client: some are deaf to an SSRC whose packets come before.

mod forward_call;

use forward_call::*;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

/// Its receivers are 1 and 2; both want pictures of 720 lines.
fn call() -> Call {
    let mut call = Call::new();
    call.join(JICOFO.media(), vec![audio_source("a-a0", 10), video_source("a-v0", &[11])]);
    call.join(JICOFO.media(), vec![]);
    call.join(OTHER.media(), vec![]);
    call.settle();
    for receiver in [1, 2] {
        call.want(receiver, 720);
    }
    call.millis(200);
    call
}

fn unsignalled(call: &mut Call, receiver: usize, names: &[&str]) {
    let endpoint = call.clients[receiver].id;
    let sources = names.iter().map(|name| (*name).to_owned()).collect();
    call.command(Command::SetUnsignalled { endpoint, sources });
}

/// SSRCs that arrived, in order, each once.
fn heard(call: &mut Call, receiver: usize) -> Vec<u32> {
    let mut ssrcs: Vec<u32> = call.clients[receiver].take_rtp().iter().map(|packet| packet.header.ssrc).collect();
    ssrcs.dedup();
    ssrcs
}

#[test]
fn nothing_goes_to_who_was_not_told_and_everything_at_once_afterwards() {
    let mut call = call();
    unsignalled(&mut call, 1, &["a-a0", "a-v0"]);
    let mut camera = Camera::new(100, 11, 1, 180);
    let speak = |sequence: u16| packet(111, sequence, u32::from(sequence) * 960, 10, b"opus");
    call.send(0, &speak(1));
    call.send(0, &camera.one(true));
    call.send(0, &speak(2));
    call.send(0, &camera.one(false));
    assert_eq!(heard(&mut call, 1), []);
    assert_eq!(heard(&mut call, 2), [10, 11, 10, 11], "signalled to the other");
    assert_eq!(call.count(Counter::DropUnsignalled), 2);
    assert_eq!(call.count(Counter::DropUnmapped), 0);

    // The audio is signalled first, then the picture: that begins with a keyframe, which is asked for.
    unsignalled(&mut call, 1, &["a-v0"]);
    call.send(0, &speak(3));
    call.send(0, &camera.one(false));
    assert_eq!(heard(&mut call, 1), [10]);
    call.clients[0].take_rtcp::<PictureLossIndication>();
    call.millis(500);
    unsignalled(&mut call, 1, &[]);
    call.send(0, &camera.one(false));
    assert_eq!(heard(&mut call, 1), []);
    assert_eq!(call.clients[0].take_rtcp::<PictureLossIndication>().len(), 1);
    call.send(0, &camera.one(true));
    assert_eq!(heard(&mut call, 1), [11]);
}

#[test]
fn a_source_that_comes_while_it_is_unsignalled_waits_too() {
    let mut call = call();
    unsignalled(&mut call, 1, &["a-a1"]);
    let endpoint = call.clients[0].id;
    let sources = vec![audio_source("a-a0", 10), audio_source("a-a1", 20), video_source("a-v0", &[11])];
    call.command(Command::SetSources { endpoint, sources });
    call.send(0, &packet(111, 1, 960, 20, b"opus"));
    call.send(0, &packet(111, 1, 960, 10, b"opus"));
    assert_eq!((heard(&mut call, 1), heard(&mut call, 2)), (vec![10], vec![20, 10]));
    // Its constraints do not let through what was not signalled to it.
    call.want(1, 360);
    call.send(0, &packet(111, 2, 1920, 20, b"opus"));
    assert_eq!(heard(&mut call, 1), []);
    unsignalled(&mut call, 1, &[]);
    call.send(0, &packet(111, 3, 2880, 20, b"opus"));
    assert_eq!(heard(&mut call, 1), [20]);
}

/// The sender must not learn that nobody wants its picture: to begin again would take it longer than the wait.
#[test]
fn the_senders_demand_is_that_of_who_will_see_it() {
    let mut call = call();
    call.take_events();
    unsignalled(&mut call, 1, &["a-v0"]);
    unsignalled(&mut call, 2, &["a-v0"]);
    call.millis(500);
    unsignalled(&mut call, 1, &[]);
    unsignalled(&mut call, 2, &[]);
    call.millis(500);
    let demands = call.take_events().into_iter().filter(|event| matches!(event, Event::SourceDemand { .. })).count();
    assert_eq!(demands, 0);
}

#[test]
fn on_another_worker_it_is_the_same() {
    let mut call = Call::spread(Default::default(), 2, 64);
    call.join_on(0, JICOFO.media(), vec![audio_source("a-a0", 10)]);
    call.join_on(1, JICOFO.media(), vec![]);
    call.settle();
    unsignalled(&mut call, 1, &["a-a0"]);
    call.send(0, &packet(111, 1, 960, 10, b"opus"));
    assert_eq!(heard(&mut call, 1), []);
    unsignalled(&mut call, 1, &[]);
    call.settle();
    call.send(0, &packet(111, 2, 1920, 10, b"opus"));
    assert_eq!(heard(&mut call, 1), [10]);
}
