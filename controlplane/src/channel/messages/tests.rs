use super::*;
use crate::channel::counters::{ChannelCounters, Counted};
use crate::channel::limits::MAX_NAMES;
use proptest::prelude::*;
use ringbridge_dataplane::media::{Limit, VideoConstraint};
use serde_json::{Map, Value};

fn parse(text: &str) -> Result<ClientMessage, Unusable> {
    ClientMessage::parse("a", text.as_bytes())
}

#[test]
fn constraints_of_both_dialects() {
    let head = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":-1,"future":1,
        "defaultConstraints":{"maxHeight":180},"constraints":{"ab-v0":{"maxHeight":720,"maxFrameRate":15}}}"#;
    let ClientMessage::ReceiverVideoConstraints(parsed) = parse(head).expect("valid") else {
        panic!("another class");
    };
    assert_eq!(parsed.last_n, Some(-1));
    assert_eq!(parsed.constraints.expect("there")["ab-v0"].max_height, Limit::Max(720));
    assert_eq!(parsed.selected_sources, None, "absent is not empty");
    let lyno = r#"{"colibriClass":"LastNChangedEvent","lastN":4}"#;
    assert_eq!(parse(lyno).expect("valid"), ClientMessage::LastNChangedEvent { last_n: 4 });
    assert_eq!(parse(r#"{"colibriClass":"SomethingNew","x":1}"#).expect("tolerated"), ClientMessage::Unknown);
    assert!(parse("{").is_err());
    assert!(parse(r#"{"colibriClass":"LastNChangedEvent","lastN":"many"}"#).is_err());
}

#[test]
fn numbers_as_javascript_writes_them() {
    let text = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":3.0,"assumedBandwidthBps":1e6,"selectedSources":null,
        "defaultConstraints":{"maxHeight":359.7,"maxFrameRate":null},"constraints":{"a-v0":{"maxHeight":null},"b-v0":{},"c-v0":{"maxFrameRate":7.5},"d-v0":{"maxFrameRate":1e99}}}"#;
    let ClientMessage::ReceiverVideoConstraints(parsed) = parse(text).expect("valid") else {
        panic!("another class");
    };
    let height = |max_height| VideoConstraint { max_height: to_limit(max_height), max_frame_rate: Limit::Unlimited };
    assert_eq!((parsed.last_n, parsed.assumed_bandwidth_bps), (Some(3), Some(1_000_000)));
    assert_eq!((parsed.selected_sources, parsed.default_constraints), (None, Some(height(359))));
    let constraints = parsed.constraints.expect("there");
    assert_eq!((constraints["a-v0"], constraints["b-v0"]), (height(-1), height(-1)));
    let rates = ["c-v0", "d-v0"].map(|name| constraints[name].max_frame_rate);
    assert_eq!(rates, [Limit::Max(8), Limit::Max(i32::MAX as u32)], "whole pictures");
}

/// Every text frame that real clients sent in the recordings; none is of an unknown class.
#[test]
fn recorded_messages_parse() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures"));
    let mut parsed = 0;
    // The recordings lie beside the repository; without them there is nothing to check.
    for scenario in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(lines) = std::fs::read_to_string(scenario.path().join("bridge-channel.jsonl")) else { continue };
        for line in lines.lines() {
            let entry: Value = serde_json::from_str(line).expect("a recorded line");
            if entry["dir"] == "client->bridge" {
                let text = entry["msg"].to_string();
                let message = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_ne!(message, ClientMessage::Unknown, "{text}");
                parsed += 1;
            }
        }
    }
    assert!(parsed > 100 || !folder.exists(), "only {parsed} recorded messages");
}

#[test]
fn what_is_sent_is_what_the_reference_sends() {
    let texts = [
        (BridgeMessage::ServerHello { version: None }, r#"{"colibriClass":"ServerHello"}"#),
        (
            BridgeMessage::SenderSourceConstraints { source_name: "a-v0".into(), max_height: 360 },
            r#"{"colibriClass":"SenderSourceConstraints","sourceName":"a-v0","maxHeight":360}"#,
        ),
        (
            BridgeMessage::EndpointConnectivityStatusChangeEvent { endpoint: "a".into(), active: "false".into() },
            r#"{"colibriClass":"EndpointConnectivityStatusChangeEvent","endpoint":"a","active":"false"}"#,
        ),
        (
            BridgeMessage::ConnectionStats { estimated_downlink_bandwidth: 2_500_000 },
            r#"{"colibriClass":"ConnectionStats","estimatedDownlinkBandwidth":2500000}"#,
        ),
        (
            BridgeMessage::VideoSourcesMap {
                mapped_sources: vec![VideoSourceMapping {
                    source: "a-v0".into(),
                    owner: "a".into(),
                    ssrc: 3_405_691_582,
                    rtx: 305_419_896,
                    video_type: "CAMERA",
                    mid: Some("v0".into()),
                }],
            },
            r#"{"colibriClass":"VideoSourcesMap","mappedSources":[{"source":"a-v0","owner":"a","ssrc":3405691582,"rtx":305419896,"videoType":"CAMERA","mid":"v0"}]}"#,
        ),
        (
            BridgeMessage::AudioSourcesMap {
                mapped_sources: vec![AudioSourceMapping {
                    source: "a-a0".into(),
                    owner: "a".into(),
                    ssrc: 7,
                    mid: None,
                }],
            },
            r#"{"colibriClass":"AudioSourcesMap","mappedSources":[{"source":"a-a0","owner":"a","ssrc":7}]}"#,
        ),
        (
            BridgeMessage::ideal_height(180),
            r#"{"colibriClass":"SenderVideoConstraints","videoConstraints":{"idealHeight":180}}"#,
        ),
    ];
    for (message, text) in texts {
        assert_eq!(message.to_text(), text);
    }
}

fn passed(text: &str) -> (String, Map<String, Value>) {
    match parse(text).expect("valid") {
        ClientMessage::EndpointMessage { to, text } => (to, serde_json::from_str(&text).expect("JSON")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_for_others_keeps_its_content_and_gets_its_true_sender() {
    let text = r#"{"colibriClass":"EndpointMessage","to":"b","from":"c","fr\u006fm":"d","from":"e",
        "msgPayload":{"x":[1,null,1e400,"\ud83e\udd80"]},"other":-0.0}"#;
    let ClientMessage::EndpointMessage { to, text } = parse(text).expect("valid") else { panic!("another class") };
    assert_eq!(to, "b");
    assert!(text.contains(r#""msgPayload":{"x":[1,null,1e400,"\ud83e\udd80"]}"#), "as written: {text}");
    assert_eq!(text.matches("from").count(), 1, "{text}");
    assert!(text.contains(r#""from":"a""#), "{text}");
    let (to, fields) = passed(r#"{"to":7,"msgPayload":1,"msgPayload":2,"colibriClass":"EndpointMessage"}"#);
    assert_eq!((to.as_str(), &fields["msgPayload"]), ("", &Value::from(2)));
    let quoted = ClientMessage::parse("a\"\\\n", br#"{"colibriClass":"EndpointStats"}"#).expect("valid");
    let ClientMessage::EndpointStats { text } = quoted else { panic!("another class") };
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["from"], "a\"\\\n");
}

#[test]
fn what_is_for_others_is_whole_json() {
    for text in [
        r#"{"colibriClass":"EndpointMessage","x":}"#,
        r#"{"colibriClass":"EndpointMessage","x":1"#,
        r#"{"colibriClass":"EndpointMessage","x":1}{}"#,
        r#"{"colibriClass":"EndpointMessage","colibriClass":"EndpointStats"}"#,
        r#"["EndpointMessage"]"#,
        "",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    let mut binary = br#"{"colibriClass":"EndpointMessage","x":"?"}"#.to_vec();
    let at = binary.iter().position(|byte| *byte == b'?').expect("there");
    binary[at] = 0xff;
    assert!(ClientMessage::parse("a", &binary).is_err(), "what clients get is text");
    let fields = (0..MAX_NAMES + 1).map(|n| format!(r#","f{n}":1"#)).collect::<String>();
    assert!(parse(&format!(r#"{{"colibriClass":"EndpointMessage"{fields}}}"#)).is_err());
}

#[test]
fn depth_is_bounded_in_every_class() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    for class in ["EndpointMessage", "EndpointStats", "ReceiverVideoConstraints", "Novelty"] {
        let text = format!(r#"{{"colibriClass":"{class}","x":{deep}}}"#);
        assert!(matches!(parse(&text), Err(Unusable::TooDeep)), "{class}");
    }
}

#[test]
fn lists_and_maps_are_cut() {
    let quoted: Vec<String> = (0..10_000).map(|n| format!("\"s{n}\"")).collect();
    let (list, counters) = (quoted.join(","), ChannelCounters::default());
    let parse = |text: &str| ClientMessage::receive("a", text.as_bytes(), &counters);
    let fields = ["selectedSources", "onStageSources", "selectedEndpoints", "onStageEndpoints"];
    let fields = fields.map(|field| format!(r#","{field}":[{list}]"#)).concat();
    let map = quoted.iter().map(|name| format!(r#"{name}:{{"maxHeight":1}}"#)).collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"colibriClass":"ReceiverVideoConstraints"{fields},"constraints":{{{map}}},"lastN":3}}"#);
    let ClientMessage::ReceiverVideoConstraints(parsed) = parse(&text).expect("valid") else { panic!("class") };
    let lists =
        [parsed.selected_sources, parsed.on_stage_sources, parsed.selected_endpoints, parsed.on_stage_endpoints];
    for list in lists {
        let list = list.expect("there");
        assert_eq!((list.len(), list[0].as_str()), (MAX_NAMES, "s0"));
    }
    assert_eq!((parsed.constraints.map(|map| map.len()), parsed.last_n), (Some(MAX_NAMES), Some(3)));
    let audio = format!(r#"{{"colibriClass":"ReceiverAudioSubscription","include":[{list}],"exclude":[{list}]}}"#);
    let ClientMessage::ReceiverAudioSubscription(parsed) = parse(&audio).expect("valid") else { panic!("class") };
    assert_eq!(parsed.include.map(|list| list.len()), Some(MAX_NAMES));
    let old = format!(r#"{{"colibriClass":"SelectedEndpointsChangedEvent","selectedEndpoints":[{list}]}}"#);
    let ClientMessage::SelectedEndpointsChangedEvent { selected_endpoints } = parse(&old).expect("valid") else {
        panic!("class")
    };
    assert_eq!(selected_endpoints.len(), MAX_NAMES);
    assert_eq!(counters.get(Counted::TooManyNames), 8);
    assert_eq!(parse(r#"{"colibriClass":"ReceiverVideoConstraints","selectedSources":[1]}"#), None);
    assert_eq!(counters.get(Counted::Malformed), 1);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!(r#"{{"colibriClass":"EndpointMessage",{text}}}"#));
    }
}
