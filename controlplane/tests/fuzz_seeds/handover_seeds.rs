//! Seeds of the target `handover`: `cargo test --test fuzz_seeds -- --ignored make_handover_seeds`.

use std::path::PathBuf;
use std::time::Instant;

use ringbridge_controlplane::colibri::bridge::ColibriBridge;
use ringbridge_controlplane::colibri::elements::ConferenceModify;
use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::EndpointId;
use tokio_xmpp::minidom::Element;

use super::make::Seeds;

/// States of bridges with more and more in them.
pub fn write(seeds: &Seeds) {
    let now = Instant::now();
    let mut bridge = ColibriBridge::new(now, super::handover::config());
    let endpoint = |id: &str, content: &str| {
        format!("<endpoint id='{id}' create='true'><transport/><capability name='source-names'/>{content}</endpoint>")
    };
    let rich = "<media type='audio'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' clockrate='48000' \
        channels='2'/></media><force-mute audio='true'/><sources><media-source type='audio' id='b-a0'><source \
        xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='7'/></media-source></sources>";
    let steps = [
        ("empty", "m", String::new()),
        ("one", "m", endpoint("a", "")),
        ("spilled", "m", endpoint("b", rich)),
        (
            "linked",
            "m",
            "<relay id='jvb2' mesh-id='0' create='true'><transport/><endpoints><endpoint id='z' create='true'/></endpoints></relay>"
                .to_owned(),
        ),
        ("two", "n", endpoint("a", "")),
    ];
    for (index, (name, meeting, content)) in steps.iter().enumerate() {
        if index > 0 {
            let create = if ["one", "two"].contains(name) { "create='true' name='r@c.x'" } else { "" };
            let xml = format!(
                "<conference-modify xmlns='jitsi:colibri2' meeting-id='{meeting}' {create}>{content}</conference-modify>"
            );
            let request = ConferenceModify::try_from(xml.parse::<Element>().expect("XML")).expect("a request");
            bridge.handle(now, &request).expect("it is granted");
            while bridge.poll_output().is_some() {}
        }
        bridge.handle_ice(now, EndpointId(1), IceState::Connected);
        seeds.write("handover", name, &*bridge.export(now).expect("a state"));
    }
}

/// The seeds of one target alone.
#[test]
#[ignore = "writes into the source tree"]
fn make_handover_seeds() {
    write(&Seeds(PathBuf::from(super::SEEDS)));
}
