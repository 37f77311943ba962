//! A recording over a real Prosody: a scripted Jibri in its brewery and in the room, a moderator, and a focus that starts again.

mod account;
mod focus_world;
mod http;
mod killed_focus;
mod prosody;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use account::{Account, JIBRI, RECORDERS, ROOM, jibri_status};
use prosody::Prosody;
use tokio::time::timeout;
use xmpp_parsers::iq::Iq;

async fn until_stats(rest: SocketAddr, expected: &str) {
    for _ in 0..300 {
        if tokio::net::TcpStream::connect(rest).await.is_ok() && http::get(rest, "/stats").await.contains(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("/stats never said {expected}");
}

#[tokio::test]
async fn a_recording_over_a_real_server_and_over_the_end_of_its_focus() {
    let Some(server) = Prosody::start() else { return };
    let rest = prosody::loopback();
    let first = killed_focus::start(&server, rest);
    let mut jibri = Account::new(&server, "jvb", RECORDERS, "jibri-1").await;
    jibri.enter(&jibri_status("idle")).await;
    until_stats(rest, "\"available\":1").await;

    let mut alice = Account::new(&server, "jvb2", ROOM, "alice").await;
    alice.ask_for_conference().await;
    alice.enter("").await;
    while !alice.room.occupants().contains_key("focus") {
        alice.step().await;
    }
    let focus = format!("{ROOM}/focus");
    let begin = format!("<jibri xmlns='{JIBRI}' action='start' recording_mode='file'/>");
    // Until the server has made her a moderator.
    let (id, order) = loop {
        let (answer, order) =
            tokio::join!(alice.ask(&focus, &begin), timeout(Duration::from_secs(2), jibri.ordered("start")));
        match (answer, order) {
            (Iq::Result { payload: Some(jibri), .. }, Ok(order)) => {
                break (jibri.attr("session_id").unwrap().to_owned(), order);
            }
            (answer, _) => println!("not yet: {answer:?}"),
        }
    };
    assert_eq!(order.payload.attr("session_id"), Some(id.as_str()));
    assert_eq!(order.from.as_ref().map(ToString::to_string), Some(format!("{RECORDERS}/focus")));
    let on = format!("<jibri xmlns='{JIBRI}' status='on'/>");
    assert!(matches!(jibri.ask(&format!("{RECORDERS}/focus"), &on).await, Iq::Result { .. }));
    let said = alice.until_recording_is("on").await;
    assert_eq!(said.attr("session_id"), Some(id.as_str()));
    assert_eq!(said.attr("initiator"), Some(format!("{ROOM}/alice").as_str()));
    let mut recorder = Account::new(&server, "jvb", ROOM, "recorder").await;
    let features =
        format!("<features><feature var='{JIBRI}'/></features><session_id>{id}</session_id><mode>FILE</mode>");
    recorder.enter(&features).await;

    // The focus is killed; the next one finds what is recorded.
    drop(first);
    let again = prosody::loopback();
    let _second = killed_focus::start(&server, again);
    until_stats(again, "\"available\":1").await;
    alice.seen.clear();
    let back = Instant::now();
    alice.ask_for_conference().await;
    let said = alice.until_recording_is("on").await;
    let took = back.elapsed();
    println!("the recording is shown {took:?} after the focus started");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(said.attr("session_id"), Some(id.as_str()));
    // Its moderator can still end it.
    let end = format!("<jibri xmlns='{JIBRI}' action='stop' recording_mode='file'/>");
    let answer = alice.ask(&focus, &end).await;
    assert!(matches!(answer, Iq::Result { .. }), "{answer:?}");
    alice.until_recording_is("off").await;
    while recorder.room.is_joined() {
        recorder.step().await;
    }
}
