//! Requests about relays as Jicofo composes them, and the answers of Jitsi Videobridge, written from what
//! docs/protocol/bridge.md 10 says of both: there is no recording of two bridges.

use tokio_xmpp::minidom::Element;

/// Relay id of the bridge on the other side.
const OTHER: &str = "jvb2";
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// A request, and the stanza that answers it.
pub struct Exchange {
    /// For reports.
    pub what: &'static str,
    pub payload: Element,
    pub answer: Element,
    /// Whether the answer's words for people are compared, too.
    pub text_counts: bool,
}

/// Which side of a link is asked.
#[derive(Clone, Copy)]
struct Role {
    initiator: bool,
    /// What it is asked to be on the channel, and what its answer says: what the other one is.
    sctp: [&'static str; 2],
    /// What is made of the other side's `actpass`.
    setup: &'static str,
}

const INITIATOR: Role = Role { initiator: true, sctp: ["client", "server"], setup: "active" };
const FOLLOWER: Role = Role { initiator: false, sctp: ["server", "client"], setup: "passive" };

fn element(text: &str) -> Element {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn modify(attributes: &str, content: &str) -> Element {
    element(&format!(
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='5c4dd1ea' {attributes}>{content}</conference-modify>"
    ))
}

fn modified(content: &str) -> Element {
    element(&format!(
        "<iq xmlns='jabber:client' type='result'><conference-modified xmlns='jitsi:colibri2'>{content}</conference-modified></iq>"
    ))
}

fn refused(kind: &str, condition: &str, reason: &str) -> Element {
    let reason = match reason {
        "" => String::new(),
        reason => format!("<error xmlns='jitsi:colibri2' reason='{reason}'/>"),
    };
    element(&format!(
        "<iq xmlns='jabber:client' type='error'><error type='{kind}'><{condition} xmlns='{STANZAS}'/>{reason}</error></iq>"
    ))
}

/// A bridge's side of a transport; the candidate is the address that it has, the digest one of 32 bytes.
fn transport_of_bridge(more: &str) -> String {
    let digest = ["AB"; 32].join(":");
    format!(
        "<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='u' pwd='p'><rtcp-mux/>\
         <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass'>{digest}</fingerprint>{more}\
         <candidate id='c' component='1' foundation='1' generation='0' ip='127.0.0.1' network='0' port='10000' \
         priority='2130706431' protocol='udp' type='host'/></transport>"
    )
}

/// Both directions of a payload type's feedback, as Jicofo has it of video.
const VIDEO_FEEDBACK: &str = "<rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='ccm' subtype='fir'/>\
    <rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='nack'/>\
    <rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='nack' subtype='pli'/>\
    <rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='transport-cc'/>";

/// The focus's full set under its own numbers, which is the same for every relay.
fn media() -> String {
    let video = [(41, "AV1", 42), (100, "VP8", 96), (107, "H264", 99), (101, "VP9", 97)].map(|(id, name, rtx)| {
        let format =
            |id, name, more| format!("<payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='{id}' name='{name}' clockrate='90000'>{more}</payload-type>");
        format(id, name, VIDEO_FEEDBACK.to_owned()) + &format(rtx, "rtx", format!("<parameter name='apt' value='{id}'/>"))
    });
    let extension =
        |id, uri| format!("<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='{id}' uri='{uri}'/>");
    let both = extension(5, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01")
        + &extension(10, "urn:ietf:params:rtp-hdrext:sdes:mid")
        + "<extmap-allow-mixed xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0'/>";
    format!(
        "<media type='audio'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' clockrate='48000' channels='2'>\
         <parameter name='minptime' value='10'/></payload-type><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='126' \
         name='telephone-event' clockrate='8000'/>{}{both}</media><media type='video'>{}{}{both}</media>",
        extension(1, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
        video.concat(),
        extension(11, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
    )
}

/// Somebody behind the other bridge with all that a camera with three layers has.
fn behind(id: &str, attributes: &str, first: u32) -> String {
    let source = |ssrc: u32, name: &str| {
        format!("<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{ssrc}' name='{name}'/>")
    };
    let group = |semantics: &str, ssrcs: &[u32]| {
        let sources: String = ssrcs
            .iter()
            .map(|ssrc| format!("<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{ssrc}'/>"))
            .collect();
        format!("<ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='{semantics}'>{sources}</ssrc-group>")
    };
    let layers = [first + 1, first + 2, first + 3];
    let video: String = (first + 1..first + 7).map(|ssrc| source(ssrc, &format!("{id}-v0"))).collect();
    let pairs: String = layers.iter().map(|ssrc| group("FID", &[*ssrc, ssrc + 3])).collect();
    format!(
        "<endpoint id='{id}' stats-id='Ann-x1' {attributes}><capability name='source-names'/><capability name='ssrc-rewriting'/>\
         <sources><media-source id='{id}-a0' type='audio'>{}</media-source>\
         <media-source id='{id}-v0' type='video'>{video}{}{pairs}</media-source></sources></endpoint>",
        source(first, &format!("{id}-a0")),
        group("SIM", &layers),
    )
}

fn relay(attributes: &str, content: &str) -> Element {
    modify("", &format!("<relay id='{OTHER}' {attributes}>{content}</relay>"))
}

fn transport(role: Role) -> String {
    let (initiator, sctp) = (role.initiator, role.sctp[0]);
    format!("<transport ice-controlling='{initiator}' use-unique-port='{initiator}'><sctp role='{sctp}'/></transport>")
}

/// What every scenario begins with: the first endpoint here, and the conference with it.
fn begin() -> Exchange {
    let endpoint = "<endpoint id='p1' create='true' stats-id='Bob-y2'><transport ice-controlling='true'/><sources/>\
                    <capability name='source-names'/></endpoint>";
    let web_socket =
        "<web-socket xmlns='http://jitsi.org/protocol/colibri' url='ws://h:1/colibri-ws/jvb1/c/p1?pwd=x'/>";
    let source = |kind: &str, name: &str| {
        format!(
            "<media-source type='{kind}' id='{name}'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' name='{name}' ssrc='1'/></media-source>"
        )
    };
    let answer = format!(
        "<endpoint id='p1'><transport>{}</transport></endpoint><sources>{}{}</sources>",
        transport_of_bridge(web_socket),
        source("audio", "jvb-a0"),
        source("video", "jvb-v0")
    );
    Exchange {
        what: "the first endpoint",
        payload: modify("create='true' name='relays@conference.meet.test' rtcstats-enabled='false'", endpoint),
        answer: modified(&answer),
        text_counts: true,
    }
}

fn exchange(what: &'static str, payload: Element, answer: Element) -> Exchange {
    Exchange { what, payload, answer, text_counts: true }
}

fn refusal(what: &'static str, payload: Element, answer: Element) -> Exchange {
    Exchange { what, payload, answer, text_counts: false }
}

/// An update is answered with the relay's name alone.
fn plain() -> Element {
    modified(&format!("<relay id='{OTHER}'/>"))
}

/// One link from its beginning to its end, as one of the two sides.
fn link(role: Role) -> Vec<Exchange> {
    let create =
        format!("{}{}<endpoints>{}</endpoints>", transport(role), media(), behind("p2", "create='true'", 1_000));
    let created = format!(
        "<relay id='{OTHER}'><transport>{}<sctp port='5000' role='{}'/></transport></relay>",
        transport_of_bridge(""),
        role.sctp[1]
    );
    let theirs = transport_of_bridge("").replace("actpass", role.setup).replace("127.0.0.1", "192.0.2.7");
    let of = |content: &str| relay("", &format!("<endpoints>{content}</endpoints>"));
    vec![
        begin(),
        exchange("a relay with somebody behind it", relay("create='true' mesh-id='0'", &create), modified(&created)),
        exchange("the other side's transport", relay("", &format!("<transport>{theirs}</transport>")), plain()),
        exchange("the same again", relay("", &format!("<transport>{theirs}</transport>")), plain()),
        exchange("one more without sources as yet", of("<endpoint id='p3' create='true' stats-id='Cid-z3'/>"), plain()),
        exchange("his sources", of(&behind("p3", "", 2_000)), plain()),
        exchange("created twice is an update", of(&behind("p3", "create='true'", 2_000)), plain()),
        exchange("no sources any more", of("<endpoint id='p3'/>"), plain()),
        exchange("an unknown one is ignored", of(&behind("p9", "", 3_000)), plain()),
        exchange("gone", of("<endpoint id='p3' expire='true'/>"), plain()),
        exchange("gone already", of("<endpoint id='p3' expire='true'/>"), plain()),
        exchange(
            "the link ends",
            relay("expire='true'", ""),
            modified(&format!("<relay id='{OTHER}' expire='true'/>")),
        ),
        exchange(
            "it has ended already",
            relay("expire='true'", ""),
            modified(&format!("<relay id='{OTHER}' expire='true'/>")),
        ),
        exchange("all of it ends", modify("expire='true'", ""), modified("")),
    ]
}

/// What Jitsi Videobridge refuses, and how.
fn refusals() -> Vec<Exchange> {
    let create = || relay("create='true' mesh-id='0'", &transport(INITIATOR));
    let other_port = transport(INITIATOR).replace("<sctp ", "<sctp port='5001' ");
    let created = format!(
        "<relay id='{OTHER}'><transport>{}<sctp port='5000' role='server'/></transport></relay>",
        transport_of_bridge("")
    );
    let two = format!("<relay id='{OTHER}'/><relay id='jvb3'/>");
    let both = format!("<relay id='{OTHER}'/><endpoint id='p1'/>");
    let reason = "FEATURE_NOT_IMPLEMENTED";
    vec![
        begin(),
        refusal("an unknown relay", relay("", "<endpoints/>"), refused("modify", "bad-request", "")),
        refusal("one without a transport", relay("create='true'", ""), refused("modify", "bad-request", "")),
        refusal("another SCTP port", relay("create='true'", &other_port), refused("modify", "bad-request", "")),
        exchange("a relay", create(), modified(&created)),
        refusal("the same again", create(), refused("cancel", "conflict", "")),
        refusal("two relays", modify("", &two), refused("cancel", "feature-not-implemented", reason)),
        refusal("a relay and an endpoint", modify("", &both), refused("cancel", "feature-not-implemented", reason)),
        exchange("nothing of it had an effect", relay("", ""), plain()),
        exchange("all of it ends", modify("expire='true'", ""), modified("")),
        refusal(
            "an unknown conference",
            relay("", "<endpoints/>"),
            refused("cancel", "item-not-found", "CONFERENCE_NOT_FOUND"),
        ),
    ]
}

/// The scenarios by name.
pub fn scenarios() -> Vec<(&'static str, Vec<Exchange>)> {
    vec![("relays-initiator", link(INITIATOR)), ("relays-follower", link(FOLLOWER)), ("relays-refused", refusals())]
}
