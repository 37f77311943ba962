use std::collections::BTreeMap;

use serde_json::Value;
use tokio_xmpp::minidom::Element;

use super::*;
use proptest::prelude::*;

fn set() -> BTreeMap<String, SourceSet> {
    let source = |ssrc, video: bool| OwnedSource {
        ssrc,
        name: Some(if video { "ab-v0" } else { "ab-a0" }.to_owned()),
        msid: Some("m t".to_owned()),
        video_type: video.then(|| "desktop".to_owned()),
        video,
    };
    let groups = vec![OwnedGroup { semantics: "FID".into(), ssrcs: vec![1, 2], video: true }];
    BTreeMap::from([(
        "ab".to_owned(),
        SourceSet { sources: vec![source(1, true), source(2, true), source(3, false)], groups },
    )])
}

#[test]
fn compact_sources_are_those_of_the_reference() {
    let text = json_sources(&set()).text;
    let expected: Value = serde_json::from_str(
        r#"{"sources":{"ab":[[{"s":1,"n":"ab-v0","m":"m t","v":"d"},{"s":2,"n":"ab-v0","m":"m t","v":"d"}],
           [["f",1,2]],[{"s":3,"n":"ab-a0","m":"m t"}]]}}"#,
    )
    .expect("json");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("json"), expected);
}

#[test]
fn xml_sources_read_back_the_same() {
    let mut contents = Vec::new();
    xml_sources(&set(), &mut contents);
    let jingle = Jingle { contents, ..Jingle::new("source-add", "s1") };
    let element: Element = jingle.clone().into();
    let again = Jingle::try_from(element).expect("parses");
    assert_eq!(again, jingle);
    let read = SourceSet::from_contents(&again.contents, 20).expect("valid");
    let mut expected = set().remove("ab").expect("there");
    expected.sources.sort_by_key(|source| (source.video, source.ssrc));
    assert_eq!(read, expected);
}

#[test]
fn every_recorded_jingle_parses() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let Ok(scenarios) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not here", folder.display());
        return;
    };
    let mut parsed = 0;
    for scenario in scenarios.flatten() {
        let Ok(text) = std::fs::read_to_string(scenario.path().join("xmpp.xml")) else { continue };
        for line in text.lines() {
            let Some(start) = line.find("<jingle ") else { continue };
            let Some(end) = line.rfind("</jingle>") else { continue };
            let element: Element = line[start..end + 9].parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            let jingle = Jingle::try_from(element).unwrap_or_else(|error| panic!("{error}: {line}"));
            parsed += usize::from(!jingle.action.is_empty());
        }
    }
    assert!(parsed > 20, "only {parsed} recorded Jingle elements");
}

proptest! {
    #[test]
    fn arbitrary_attributes_never_panic(ssrc in "\\PC{0,12}|[0-9]{1,11}", media in "[a-z]{1,8}|audio|video", semantics in "[A-Z]{0,4}") {
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
        let xml = format!(
            "<jingle xmlns='{}' action='source-add' sid='1'><content name='x'><description xmlns='{}' media='{media}'>\
             <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{}'/>\
             <ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='{semantics}'/></description></content></jingle>",
            ns::JINGLE, ns::RTP, escape(&ssrc)
        );
        if let Ok(element) = xml.parse::<Element>()
            && let Ok(jingle) = Jingle::try_from(element) {
                let read = SourceSet::from_contents(&jingle.contents, 20);
                let valid = ssrc.trim().parse::<u32>().is_ok_and(|ssrc| ssrc > 0);
                let known = media == "audio" || media == "video";
                prop_assert_eq!(read.is_err(), known && !valid);
                prop_assert_eq!(read.unwrap_or_default().sources.len(), usize::from(known && valid));
            }
    }
}
