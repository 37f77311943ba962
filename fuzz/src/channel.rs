//! Messages of the bridge channel.
//!
//! Fed: lines; the first character is the sender (`0` to `3`: two members, a visitor, somebody in another conference; `r` and `s`:
//! another bridge of the members' conference, of two meshes), the rest its text.
//! Held: nothing panics; what is passed on is of the two classes that are passed on, names its true sender, and stays in the
//! conference; a visitor's is not passed on; a bridge speaks for those behind it alone; constraints change only their owner's; what is said is JSON.

use std::collections::BTreeSet;

use ringbridge_controlplane::bridge::fuzzing::{Channels, Said};
use ringbridge_controlplane::channel::ClientMessage;
use ringbridge_dataplane::ids::{EndpointId, Ssrc};
use ringbridge_dataplane::media::{Encoding, MediaKind, SourceDescription, VideoType};
use ringbridge_dataplane::messages::Command;

/// Names of the senders.
const LABELS: [&str; 4] = ["alice", "bob", "visitor", "stranger"];

/// Two relays, in a mesh each, and the endpoints behind them.
const RELAYS: [u32; 2] = [100, 101];
const RELAYED: [u32; 2] = [200, 201];
const BEHIND: [&str; 2] = ["rita", "sam"];

fn channels() -> Channels {
    let mut channels = Channels::new().expect("a certificate");
    for (index, label) in LABELS.into_iter().enumerate() {
        let source = |kind, letter: &str, ssrc| SourceDescription {
            name: format!("{label}-{letter}0"),
            kind,
            video_type: VideoType::Camera,
            encodings: vec![Encoding { ssrc, rtx: None }],
        };
        let sources = vec![source(MediaKind::Audio, "a", Ssrc::new(10)), source(MediaKind::Video, "v", Ssrc::new(11))];
        let visitor = label == "visitor";
        channels.join(
            u32::from(label == "stranger"),
            index as u32,
            label,
            visitor,
            if visitor { Vec::new() } else { sources },
        );
    }
    for (index, label) in BEHIND.into_iter().enumerate() {
        channels.link(0, RELAYS[index], index as u32, RELAYED[index], label);
    }
    while channels.poll().is_some() {}
    channels
}

/// What is looked at of a message. The rest may hold what no number of ours does (`1e400`), and is passed on as it is.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    colibri_class: String,
    from: Option<String>,
    endpoint: Option<String>,
}

/// What another bridge's message led to.
fn relayed(relay: usize, said: Said) {
    match said {
        Said::Text(EndpointId(to), text) => {
            assert_ne!(to, 3, "it stays in its conference");
            let said: Envelope = serde_json::from_str(&text).expect("what is said is JSON");
            match said.colibri_class.as_str() {
                "EndpointMessage" | "EndpointStats" => assert_eq!(said.from.as_deref(), Some(BEHIND[relay])),
                "EndpointConnectivityStatusChangeEvent" => assert_eq!(said.endpoint.as_deref(), Some(BEHIND[relay])),
                class => panic!("{class} passed on"),
            }
        }
        Said::Command(Command::SetRelayDemand { relay: EndpointId(id), endpoint: EndpointId(of), .. }) => {
            assert_eq!(id, RELAYS[relay]);
            // Of this bridge, or of the other mesh; a visitor has none.
            assert!(of < 2 || of == RELAYED[1 - relay], "the demand of {of}");
        }
        Said::Command(other) => panic!("no message leads to {other:?}"),
        Said::VideoType(EndpointId(of), _) => assert_eq!(of, RELAYED[relay]),
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut channels = channels();
    for line in data.split(|byte| *byte == b'\n').take(50) {
        let Some((who, text)) = line.split_first() else { continue };
        let sender = u32::from(who.wrapping_sub(b'0')) % LABELS.len() as u32;
        if let Ok(text) = std::str::from_utf8(text) {
            let _ = ClientMessage::parse("alice", text.as_bytes());
        }
        if let Some(relay) = [b'r', b's'].iter().position(|letter| letter == who) {
            channels.receive_relayed(RELAYS[relay], text);
            while let Some(said) = channels.poll() {
                relayed(relay, said);
            }
            continue;
        }
        channels.receive(sender, text);
        let mut seen = BTreeSet::new();
        while let Some(said) = channels.poll() {
            match said {
                Said::Text(EndpointId(to), text) => {
                    assert_eq!(to == 3, sender == 3, "it stays in its conference");
                    let said: Envelope = serde_json::from_str(&text).expect("what is said is JSON");
                    let class = said.colibri_class.as_str();
                    if to != sender {
                        assert!(matches!(class, "EndpointMessage" | "EndpointStats"), "{class} passed on");
                        assert_eq!(said.from.as_deref(), Some(LABELS[sender as usize]));
                        assert_ne!(sender, 2, "a visitor's message is not passed on");
                        assert!(seen.insert(to), "sent twice");
                    }
                }
                Said::Command(Command::SetConstraints { endpoint, constraints }) => {
                    assert_eq!(endpoint, EndpointId(sender));
                    // Each name stands for a few bytes of the text, or for the sources of an endpoint.
                    let names = constraints.on_stage.len() + constraints.selected.len() + constraints.per_source.len();
                    assert!(names <= data.len());
                }
                Said::Command(other) => panic!("no message leads to {other:?}"),
                Said::VideoType(EndpointId(of), _) => assert_eq!(of, sender),
            }
        }
    }
}
