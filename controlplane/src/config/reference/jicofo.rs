//! Keys of Jicofo's file (`jicofo.conf`).

use super::uses::Use::{self, Ignored, Key, Only, Special};

const FIXED: &str = "is fixed here at Jicofo's default";
const ITSELF: &str = "the focus bounds this by itself; see docs/security.md";
const OFFER: &str = "what is offered is fixed: all that the bridge forwards, under Jicofo's default numbers";
const RELAYS: &str = "a conference stays on one bridge: the least loaded one, rather in the first participant's region";
const HEALTH: &str = "bridges are asked every 2 s, and taken out after two silences";
const ALWAYS: &str = "always served, on the private address only";
const CLIENT: &str = "follows what each client can do";
const JIBRI: &str = "Jibris are on the clients' server, at whatever address they reach the bridge";
const JIGASI: &str = "Jigasis are on the clients' server, at whatever address they reach the bridge";
const TRANSCRIPTION: &str = "transcription and translation by the bridge are not served";
const VISITORS: &str = "visitors are not served";
const LOGIN: &str =
    "login is not served, and without it everybody could open rooms: leave this off, or stay with Jicofo on this site";
const NO_LOGIN: &str = "login is off";

/// Keys, or beginnings of keys that end in a dot; the longest that fits counts.
pub(super) const USES: &[(&str, Use)] = &[
    ("jicofo.xmpp.client.hostname", Key("xmpp.host")),
    ("jicofo.xmpp.client.port", Key("xmpp.port")),
    ("jicofo.xmpp.client.domain", Special),
    ("jicofo.xmpp.client.username", Special),
    ("jicofo.xmpp.client.password", Key("focus.password")),
    ("jicofo.xmpp.client.resource", Only(&["focus"], "clients address the focus as .../focus: leave it out")),
    ("jicofo.xmpp.client.xmpp-domain", Special),
    ("jicofo.xmpp.client.conference-muc-jid", Special),
    ("jicofo.xmpp.client.disable-certificate-verification", Special),
    ("jicofo.xmpp.client.use-tls", Special),
    ("jicofo.xmpp.client.client-proxy", Ignored("requests that come through a proxy are answered through it")),
    ("jicofo.xmpp.client.enabled", Only(&["true"], "the focus cannot do without the clients' server")),
    ("jicofo.xmpp.client.", Ignored(FIXED)),
    ("jicofo.xmpp.service.enabled", Special),
    ("jicofo.xmpp.service.hostname", Special),
    ("jicofo.xmpp.service.port", Special),
    ("jicofo.xmpp.service.", Ignored("bridges are on the clients' server")),
    ("jicofo.xmpp.visitors.", Ignored(VISITORS)),
    ("jicofo.xmpp.trusted-domains", Key("focus.trusted-domains")),
    ("jicofo.xmpp.use-jitsi-jid-validation", Ignored("addresses are checked as RFC 7622 says")),
    ("jicofo.bridge.brewery-jid", Key("brewery")),
    ("jicofo.bridge.xmpp-connection-name", Ignored("bridges are on the clients' server")),
    ("jicofo.bridge.selection-strategy", Ignored(RELAYS)),
    ("jicofo.bridge.visitor-selection-strategy", Ignored(VISITORS)),
    ("jicofo.bridge.participant-selection-strategy", Ignored(RELAYS)),
    ("jicofo.bridge.topology-strategy", Ignored(RELAYS)),
    ("jicofo.bridge.region-groups", Ignored(RELAYS)),
    ("jicofo.bridge.max-bridge-participants", Ignored(RELAYS)),
    ("jicofo.bridge.max-bridge-participants-per-interval", Ignored(RELAYS)),
    ("jicofo.bridge.max-bridge-participants-interval", Ignored(RELAYS)),
    ("jicofo.bridge.max-bridge-packet-rate", Ignored("bridges report their stress themselves")),
    ("jicofo.bridge.average-participant-stress", Ignored("bridges report it themselves")),
    ("jicofo.bridge.average-participant-packet-rate-pps", Ignored("bridges report their stress themselves")),
    ("jicofo.bridge.participant-rampup-interval", Ignored(FIXED)),
    ("jicofo.bridge.stress-threshold", Ignored(RELAYS)),
    ("jicofo.bridge.failure-reset-threshold", Ignored(FIXED)),
    ("jicofo.bridge.health-checks.", Ignored(HEALTH)),
    ("jicofo.bridge.ice-failure-detection.enabled", Key("focus.ice-failure.enabled")),
    ("jicofo.bridge.ice-failure-detection.interval", Key("focus.ice-failure.interval")),
    ("jicofo.bridge.ice-failure-detection.min-endpoints", Key("focus.ice-failure.min-endpoints")),
    ("jicofo.bridge.ice-failure-detection.threshold", Special),
    ("jicofo.bridge.ice-failure-detection.timeout", Key("focus.ice-failure.timeout")),
    ("jicofo.bridge.load-redistribution.", Ignored("conferences do not move because of load")),
    ("jicofo.codec.", Ignored(OFFER)),
    ("jicofo.conference.initial-timeout", Key("focus.initial-timeout")),
    ("jicofo.conference.single-participant-timeout", Key("focus.single-participant-timeout")),
    ("jicofo.conference.min-participants", Key("focus.min-participants")),
    ("jicofo.conference.enable-ice-restart", Key("focus.ice-restart")),
    (
        "jicofo.conference.enable-auto-owner",
        Only(
            &["true"],
            "the first participant becomes owner: leave it on, or stay with Jicofo where Prosody names the owners",
        ),
    ),
    ("jicofo.conference.enable-moderator-checks", Key("focus.moderator-checks")),
    ("jicofo.conference.max-ssrcs-per-user", Ignored(ITSELF)),
    ("jicofo.conference.max-ssrc-groups-per-user", Ignored(ITSELF)),
    ("jicofo.conference.restart-request-rate-limits.", Ignored(ITSELF)),
    ("jicofo.conference.max-audio-senders", Ignored("the number of senders is not limited")),
    ("jicofo.conference.max-video-senders", Ignored("the number of senders is not limited")),
    (
        "jicofo.conference.source-signaling-delays",
        Ignored("sources are told together by the size of the room by itself"),
    ),
    (
        "jicofo.conference.source-signaling-delays.",
        Ignored("sources are told together by the size of the room by itself"),
    ),
    ("jicofo.conference.strip-simulcast", Ignored("always done: the bridge forwards the layers under the first SSRC")),
    ("jicofo.conference.use-ssrc-rewriting", Ignored(CLIENT)),
    ("jicofo.conference.use-rtp-mid-demux", Ignored(CLIENT)),
    ("jicofo.conference.use-json-encoded-sources", Ignored(CLIENT)),
    ("jicofo.conference.enable-multi-stream-backward-compat", Ignored("gone from today's Jicofo too")),
    ("jicofo.conference.inject-ssrc-for-recv-only-endpoints", Ignored("gone from today's Jicofo too")),
    ("jicofo.conference.enable-lip-sync", Ignored("gone from today's Jicofo too")),
    ("jicofo.conference.reinvite-method", Ignored("a client that has to move gets a new session")),
    ("jicofo.conference.shared-document.", Ignored("the room's name is the document's")),
    ("jicofo.authentication.enabled", Only(&["false"], LOGIN)),
    ("jicofo.authentication.", Ignored(NO_LOGIN)),
    ("jicofo.health.", Ignored("the health page looks at XMPP and at the bridges by itself")),
    ("jicofo.jibri.brewery-jid", Key("focus.jibri.brewery")),
    ("jicofo.jibri.pending-timeout", Key("focus.jibri.pending-timeout")),
    ("jicofo.jibri.num-retries", Key("focus.jibri.retries")),
    ("jicofo.jibri.", Ignored(JIBRI)),
    ("jicofo.jibri-sip.brewery-jid", Key("focus.jibri.sip-brewery")),
    ("jicofo.jigasi.brewery-jid", Key("focus.jigasi.brewery")),
    ("jicofo.jigasi.", Ignored(JIGASI)),
    ("jicofo.transcription.", Ignored(TRANSCRIPTION)),
    ("jicofo.translation.", Ignored(TRANSCRIPTION)),
    ("jicofo.local-region", Ignored(RELAYS)),
    ("jicofo.metrics.", Ignored("the numbers are those of the moment, at most 1 s old")),
    ("jicofo.octo.", Ignored(RELAYS)),
    ("jicofo.rest.host", Special),
    ("jicofo.rest.port", Special),
    ("jicofo.rest.tls-port", Ignored("let a web server end TLS in front of it")),
    ("jicofo.rest.", Ignored(ALWAYS)),
    ("jicofo.sctp.enabled", Key("focus.sctp.enabled")),
    ("jicofo.task-pools.", Ignored("there is one task, and it waits for nothing")),
    ("jicofo.colibri.", Ignored("colibri2 alone, as today's Jicofo")),
    ("jicofo.visitors.", Ignored(VISITORS)),
    ("tracing.", Ignored("no traces are sent")),
];
