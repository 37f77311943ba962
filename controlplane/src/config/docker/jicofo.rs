//! The environment of docker-jitsi-meet's Jicofo container, as the keys of `jicofo.conf` that its template makes of it.

use super::variables::{Variables, host_and_port, is_on};
use crate::config::values::items;

/// Without it the container does not start either: its presence says that this environment is meant.
pub(in crate::config) const MARK: &str = "JICOFO_AUTH_PASSWORD";
/// What of the operator's files the image reads after everything else.
pub(in crate::config) const CUSTOM: &str = "custom-jicofo.conf";

const SENTRY: &str = "errors are in the log";
const JAVA: &str = "there is no Java virtual machine";

/// Variables that are in no key of Jicofo, and why they change nothing here.
const IGNORED: &[(&str, &str)] = &[
    ("JICOFO_MAX_MEMORY", JAVA),
    ("JAVA_SYS_PROPS", JAVA),
    ("JICOFO_CMD", JAVA),
    ("JICOFO_LOG_FILE", "the log goes to standard error"),
    ("SENTRY_DSN", SENTRY),
    ("SENTRY_ENVIRONMENT", SENTRY),
    ("SENTRY_RELEASE", SENTRY),
    ("TZ", "the log's times are UTC"),
    ("JIGASI_TRUSTED_DOMAINS", "today's image does not use it either; it has JICOFO_TRUSTED_DOMAINS"),
    ("JICOFO_COMPONENT_SECRET", "the focus is not a component, nor is it in today's image"),
];

/// How a variable's value is written in the file.
#[derive(Clone, Copy)]
enum As {
    /// As it is.
    Text,
    /// `true` or `false`.
    Switch,
    /// A number of seconds.
    Seconds,
}

const STRATEGY: &str = "OCTO_BRIDGE_SELECTION_STRATEGY";

/// Variables that are one key of Jicofo each.
const KEYS: &[(&str, &str, As)] = &[
    ("MAX_BRIDGE_PARTICIPANTS", "jicofo.bridge.max-bridge-participants", As::Text),
    ("BRIDGE_AVG_PARTICIPANT_STRESS", "jicofo.bridge.average-participant-stress", As::Text),
    ("BRIDGE_STRESS_THRESHOLD", "jicofo.bridge.stress-threshold", As::Text),
    (STRATEGY, "jicofo.bridge.selection-strategy", As::Text),
    ("JICOFO_BRIDGE_REGION_GROUPS", "jicofo.bridge.region-groups", As::Text),
    ("JICOFO_ENABLE_BRIDGE_HEALTH_CHECKS", "jicofo.bridge.health-checks.enabled", As::Switch),
    ("JICOFO_HEALTH_CHECKS_USE_PRESENCE", "jicofo.bridge.health-checks.use-presence", As::Switch),
    ("JICOFO_ENABLE_ICE_FAILURE_DETECTION", "jicofo.bridge.ice-failure-detection.enabled", As::Switch),
    ("JICOFO_ICE_FAILURE_INTERVAL", "jicofo.bridge.ice-failure-detection.interval", As::Seconds),
    ("JICOFO_ICE_FAILURE_MIN_ENDPOINTS", "jicofo.bridge.ice-failure-detection.min-endpoints", As::Text),
    ("JICOFO_ICE_FAILURE_THRESHOLD", "jicofo.bridge.ice-failure-detection.threshold", As::Text),
    ("JICOFO_ENABLE_LOAD_REDISTRIBUTION", "jicofo.bridge.load-redistribution.enabled", As::Switch),
    ("ENABLE_CODEC_VP8", "jicofo.codec.video.vp8.enabled", As::Switch),
    ("ENABLE_CODEC_VP9", "jicofo.codec.video.vp9.enabled", As::Switch),
    ("ENABLE_CODEC_AV1", "jicofo.codec.video.av1.enabled", As::Switch),
    ("ENABLE_CODEC_H264", "jicofo.codec.video.h264.enabled", As::Switch),
    ("ENABLE_CODEC_OPUS_RED", "jicofo.codec.audio.opus.red.enabled", As::Switch),
    ("ENABLE_VLA", "jicofo.codec.rtp-extensions.video-layers-allocation.enabled", As::Switch),
    ("JICOFO_ENABLE_MID", "jicofo.codec.rtp-extensions.mid.enabled", As::Switch),
    ("ENABLE_AUTO_OWNER", "jicofo.conference.enable-auto-owner", As::Switch),
    ("ENABLE_MODERATOR_CHECKS", "jicofo.conference.enable-moderator-checks", As::Switch),
    ("JICOFO_CONF_INITIAL_PARTICIPANT_WAIT_TIMEOUT", "jicofo.conference.initial-timeout", As::Text),
    ("JICOFO_CONF_SINGLE_PARTICIPANT_TIMEOUT", "jicofo.conference.single-participant-timeout", As::Text),
    ("JICOFO_CONF_SOURCE_SIGNALING_DELAYS", "jicofo.conference.source-signaling-delays", As::Text),
    ("JICOFO_CONF_MAX_AUDIO_SENDERS", "jicofo.conference.max-audio-senders", As::Text),
    ("JICOFO_CONF_MAX_VIDEO_SENDERS", "jicofo.conference.max-video-senders", As::Text),
    ("JICOFO_CONF_STRIP_SIMULCAST", "jicofo.conference.strip-simulcast", As::Switch),
    ("JICOFO_CONF_SSRC_REWRITING", "jicofo.conference.use-ssrc-rewriting", As::Switch),
    ("JICOFO_MULTI_STREAM_BACKWARD_COMPAT", "jicofo.conference.enable-multi-stream-backward-compat", As::Switch),
    ("MAX_SSRCS_PER_USER", "jicofo.conference.max-ssrcs-per-user", As::Text),
    ("MAX_SSRC_GROUPS_PER_USER", "jicofo.conference.max-ssrc-groups-per-user", As::Text),
    ("ENABLE_SHARED_DOCUMENT_RANDOM_NAME", "jicofo.conference.shared-document.use-random-name", As::Switch),
    ("JICOFO_RESTART_REQUEST_MAX", "jicofo.conference.restart-request-rate-limits.max-requests", As::Text),
    ("JICOFO_RESTART_REQUEST_INTERVAL", "jicofo.conference.restart-request-rate-limits.interval", As::Seconds),
    ("JICOFO_ENABLE_HEALTH_CHECKS", "jicofo.health.enabled", As::Switch),
    ("JICOFO_OCTO_REGION", "jicofo.local-region", As::Text),
    ("ENABLE_OCTO", "jicofo.octo.enabled", As::Switch),
    ("JICOFO_TRANSLATION_URL_TEMPLATE", "jicofo.translation.url-template", As::Text),
    ("JICOFO_TRANSLATION_CF_ACCESS_CLIENT_ID", "jicofo.translation.http-headers.CF-Access-Client-Id", As::Text),
    ("JICOFO_TRANSLATION_CF_ACCESS_CLIENT_SECRET", "jicofo.translation.http-headers.CF-Access-Client-Secret", As::Text),
];

/// Variables of a part that is switched by another one; the template leaves them out without that.
const BEHIND: &[(&str, &str, &str, As)] = &[
    ("ENABLE_RECORDING", "JIBRI_REQUEST_RETRIES", "jicofo.jibri.num-retries", As::Text),
    ("ENABLE_RECORDING", "JIBRI_PENDING_TIMEOUT", "jicofo.jibri.pending-timeout", As::Text),
    ("ENABLE_VISITORS", "VISITORS_MAX_PARTICIPANTS", "jicofo.visitors.max-participants", As::Text),
    ("ENABLE_VISITORS", "VISITORS_MAX_VISITORS_PER_NODE", "jicofo.visitors.max-visitors-per-node", As::Text),
    ("ENABLE_VISITORS", "JICOFO_VISITORS_REQUIRE_MUC_CONFIG", "jicofo.visitors.require-muc-config-flag", As::Switch),
];

/// What the environment says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Docker {
    /// Jicofo's key, its value, the variable.
    pub values: Vec<(String, String, &'static str)>,
    /// Variables that are set and change nothing: name, value, why.
    pub ignored: Vec<(&'static str, String, &'static str)>,
}

/// Reads the variables; `None` when this is another environment.
pub(in crate::config) fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Docker> {
    let variables = Variables(variable);
    let (get, on) = (|name: &str| variables.get(name), |name: &str| variables.on(name));
    let or = |name: &str, default: &str| variables.or(name, default);
    let password = get(MARK)?;
    // Of the file /etc/jitsi/jicofo/config of Debian's package, which has the same name for something else.
    if get("JICOFO_AUTH_DOMAIN").is_some() || get("JICOFO_HOSTNAME").is_some() {
        return None;
    }
    let mut docker = Docker::default();
    let mut set = |path: &str, value: String, name: &'static str| docker.values.push((path.to_owned(), value, name));

    let (server, domain) = (or("XMPP_SERVER", "xmpp.meet.jitsi"), or("XMPP_DOMAIN", "meet.jitsi"));
    let (host, port) = host_and_port(&server);
    let port = port.map_or_else(|| or("XMPP_PORT", "5222"), str::to_owned);
    let client = |field: &str| format!("jicofo.xmpp.client.{field}");
    set(&client("hostname"), host.to_owned(), "XMPP_SERVER");
    set(&client("port"), port, "XMPP_PORT");
    set(&client("domain"), or("XMPP_AUTH_DOMAIN", "auth.meet.jitsi"), "XMPP_AUTH_DOMAIN");
    set(&client("xmpp-domain"), domain.clone(), "XMPP_DOMAIN");
    set(&client("password"), password, MARK);
    set(&client("conference-muc-jid"), or("XMPP_MUC_DOMAIN", "muc.meet.jitsi"), "XMPP_MUC_DOMAIN");
    set(&client("disable-certificate-verification"), "true".to_owned(), MARK);
    let internal = or("XMPP_INTERNAL_MUC_DOMAIN", "internal-muc.meet.jitsi");
    let bridges = if on("ENABLE_JVB_XMPP_SERVER") {
        let server = or("JVB_XMPP_SERVER", "xmpp.jvb.meet.jitsi");
        set("jicofo.xmpp.service.enabled", "true".to_owned(), "ENABLE_JVB_XMPP_SERVER");
        set("jicofo.xmpp.service.hostname", server, "JVB_XMPP_SERVER");
        set("jicofo.xmpp.service.port", or("JVB_XMPP_PORT", "6222"), "JVB_XMPP_PORT");
        set("jicofo.xmpp.service.domain", or("JVB_XMPP_AUTH_DOMAIN", "auth.jvb.meet.jitsi"), "JVB_XMPP_AUTH_DOMAIN");
        or("JVB_XMPP_INTERNAL_MUC_DOMAIN", "muc.jvb.meet.jitsi")
    } else {
        internal.clone()
    };
    let room = |variable: &str, default: &str, service: &str| format!("{}@{service}", or(variable, default));
    set("jicofo.bridge.brewery-jid", room("JVB_BREWERY_MUC", "jvbbrewery", &bridges), "JVB_BREWERY_MUC");
    if on("JICOFO_ENABLE_REST") {
        set("jicofo.rest.host", "0.0.0.0".to_owned(), "JICOFO_ENABLE_REST");
    }
    set("jicofo.sctp.enabled", "true".to_owned(), MARK);

    let (login, variable) = match get("JICOFO_ENABLE_AUTH") {
        Some(login) => (is_on(&login), "JICOFO_ENABLE_AUTH"),
        None => (on("ENABLE_AUTH"), "ENABLE_AUTH"),
    };
    if login {
        let kind = get("JICOFO_AUTH_TYPE").unwrap_or_else(|| or("AUTH_TYPE", "internal"));
        let kind = if kind == "jwt" { "JWT" } else { "XMPP" };
        set("jicofo.authentication.enabled", "true".to_owned(), variable);
        set("jicofo.authentication.type", kind.to_owned(), "AUTH_TYPE");
        set("jicofo.authentication.login-url", domain, "XMPP_DOMAIN");
        let auto = get("ENABLE_AUTO_LOGIN").is_none_or(|value| is_on(&value));
        set("jicofo.authentication.enable-auto-login", auto.to_string(), "ENABLE_AUTO_LOGIN");
        let lifetime = or("JICOFO_AUTH_LIFETIME", "24 hours");
        set("jicofo.authentication.authentication-lifetime", lifetime, "JICOFO_AUTH_LIFETIME");
    }
    if on("ENABLE_RECORDING") {
        let brewery = room("JIBRI_BREWERY_MUC", "jibribrewery", &internal);
        set("jicofo.jibri.brewery-jid", brewery, "JIBRI_BREWERY_MUC");
        if get("JIBRI_PENDING_TIMEOUT").is_none() {
            set("jicofo.jibri.pending-timeout", "90 seconds".to_owned(), "ENABLE_RECORDING");
        }
    }
    if let Some(brewery) = get("JIBRI_SIP_BREWERY_MUC") {
        set("jicofo.jibri-sip.brewery-jid", brewery, "JIBRI_SIP_BREWERY_MUC");
    }
    if get("JIGASI_SIP_URI").is_some() || on("ENABLE_TRANSCRIPTIONS") {
        let brewery = room("JIGASI_BREWERY_MUC", "jigasibrewery", &internal);
        set("jicofo.jigasi.brewery-jid", brewery, "JIGASI_BREWERY_MUC");
    }
    let (trusted, variable) = match get("JICOFO_TRUSTED_DOMAINS") {
        Some(domains) => (domains, "JICOFO_TRUSTED_DOMAINS"),
        None if on("ENABLE_RECORDING") || on("ENABLE_TRANSCRIPTIONS") => {
            let hidden = get("XMPP_HIDDEN_DOMAIN").unwrap_or_else(|| or("XMPP_RECORDER_DOMAIN", "hidden.meet.jitsi"));
            (hidden, "XMPP_HIDDEN_DOMAIN")
        }
        None => (String::new(), "XMPP_HIDDEN_DOMAIN"),
    };
    let trusted: Vec<&str> = items(&trusted).collect();
    if !trusted.is_empty() {
        set("jicofo.xmpp.trusted-domains", trusted.join(","), variable);
    }
    if on("ENABLE_VISITORS") {
        set("jicofo.visitors.enabled", "true".to_owned(), "ENABLE_VISITORS");
        set("jicofo.visitors.max-visitors-per-node", "250".to_owned(), "ENABLE_VISITORS");
        // The image's template: what is said of the strategy counts without visitors alone.
        let by_region = || "RegionBasedBridgeSelectionStrategy".to_owned();
        set("jicofo.bridge.selection-strategy", "VisitorSelectionStrategy".to_owned(), "ENABLE_VISITORS");
        set("jicofo.bridge.participant-selection-strategy", by_region(), "ENABLE_VISITORS");
        set("jicofo.bridge.visitor-selection-strategy", by_region(), "ENABLE_VISITORS");
        let service = |index: usize| {
            format!(
                "{}.v{index}.{}",
                or("PROSODY_VISITORS_MUC_PREFIX", "muc"),
                or("VISITORS_XMPP_DOMAIN", "meet.jitsi")
            )
        };
        let servers = or("VISITORS_XMPP_SERVER", "");
        for (index, server) in items(&servers).enumerate() {
            let (host, port) = host_and_port(server);
            let first: usize = or("VISITORS_XMPP_PORT", "52220").parse().unwrap_or(52_220);
            let port = port.map_or_else(|| first.saturating_add(index).to_string(), str::to_owned);
            let node = |field: &str| format!("jicofo.xmpp.visitors.v{index}.{field}");
            set(&node("hostname"), host.to_owned(), "VISITORS_XMPP_SERVER");
            set(&node("port"), port, "VISITORS_XMPP_SERVER");
            set(&node("conference-service"), service(index), "VISITORS_XMPP_DOMAIN");
            set(&node("domain"), or("VISITORS_XMPP_AUTH_DOMAIN", "auth.meet.jitsi"), "VISITORS_XMPP_AUTH_DOMAIN");
            set(&node("password"), get(MARK).unwrap_or_default(), MARK);
            set(&node("disable-certificate-verification"), "true".to_owned(), MARK);
        }
    }
    let behind = BEHIND.iter().filter(|(switch, ..)| on(switch)).map(|(_, name, path, form)| (*name, *path, *form));
    for (name, path, form) in KEYS.iter().copied().chain(behind) {
        let Some(value) = get(name).filter(|_| name != STRATEGY || !on("ENABLE_VISITORS")) else { continue };
        let value = match form {
            As::Text => value,
            As::Switch => is_on(&value).to_string(),
            As::Seconds => format!("{value} seconds"),
        };
        set(path, value, name);
    }
    docker.ignored = variables.among(IGNORED);
    Some(docker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Option<Docker> {
        read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn value<'a>(docker: &'a Docker, path: &str) -> Option<&'a str> {
        docker.values.iter().rfind(|(known, ..)| known == path).map(|(_, value, _)| value.as_str())
    }

    #[test]
    fn other_environments_are_left_alone() {
        assert_eq!(from(&[("JVB_AUTH_PASSWORD", "x"), ("XMPP_SERVER", "x")]), None);
        assert_eq!(from(&[(MARK, "")]), None);
        assert_eq!(from(&[(MARK, "x"), ("JICOFO_AUTH_DOMAIN", "auth.example.net")]), None, "of Debian's package");
    }

    #[test]
    fn the_least_that_the_image_needs() {
        let docker = from(&[(MARK, "s3cret")]).expect("meant");
        for (path, expected) in [
            ("jicofo.xmpp.client.hostname", "xmpp.meet.jitsi"),
            ("jicofo.xmpp.client.port", "5222"),
            ("jicofo.xmpp.client.domain", "auth.meet.jitsi"),
            ("jicofo.xmpp.client.conference-muc-jid", "muc.meet.jitsi"),
            ("jicofo.xmpp.client.disable-certificate-verification", "true"),
            ("jicofo.bridge.brewery-jid", "jvbbrewery@internal-muc.meet.jitsi"),
            ("jicofo.sctp.enabled", "true"),
        ] {
            assert_eq!(value(&docker, path), Some(expected), "{path}");
        }
        for path in ["jicofo.rest.host", "jicofo.authentication.enabled", "jicofo.xmpp.service.enabled"] {
            assert_eq!(value(&docker, path), None, "{path}");
        }
        assert_eq!(docker.ignored, []);
    }

    #[test]
    fn switches_that_stand_for_others() {
        let login = |pairs: &[(&str, &str)]| {
            let docker = from(&[pairs, &[(MARK, "x")]].concat()).expect("meant");
            value(&docker, "jicofo.authentication.enabled").is_some()
        };
        assert!(login(&[("ENABLE_AUTH", "1")]) && login(&[("JICOFO_ENABLE_AUTH", "true")]));
        assert!(!login(&[("ENABLE_AUTH", "1"), ("JICOFO_ENABLE_AUTH", "0")]) && !login(&[("ENABLE_AUTH", "0")]));
        let docker = from(&[(MARK, "x"), ("ENABLE_RECORDING", "1"), ("XMPP_RECORDER_DOMAIN", "recorder.example.net")]);
        let docker = docker.expect("meant");
        assert_eq!(value(&docker, "jicofo.xmpp.trusted-domains"), Some("recorder.example.net"));
        assert_eq!(value(&docker, "jicofo.jibri.brewery-jid"), Some("jibribrewery@internal-muc.meet.jitsi"));
        let docker = from(&[(MARK, "x"), ("JIBRI_REQUEST_RETRIES", "1"), ("VISITORS_MAX_PARTICIPANTS", "9")]);
        let docker = docker.expect("meant");
        assert!(!docker.values.iter().any(|(path, ..)| path.contains("jibri") || path.contains("visitors")));
        let docker = from(&[(MARK, "x"), ("ENABLE_VISITORS", "1"), ("VISITORS_XMPP_SERVER", "a,b:5333, ,c")]);
        let docker = docker.expect("meant");
        let ports = ["v0", "v1", "v2"].map(|v| value(&docker, &format!("jicofo.xmpp.visitors.{v}.port")));
        assert_eq!(ports, [Some("52220"), Some("5333"), Some("52222")]);
        let node = |field: &str| value(&docker, &format!("jicofo.xmpp.visitors.v1.{field}"));
        assert_eq!((node("password"), node("conference-service")), (Some("x"), Some("muc.v1.meet.jitsi")));
        assert_eq!(node("disable-certificate-verification"), Some("true"));
        assert_eq!(value(&docker, "jicofo.visitors.max-visitors-per-node"), Some("250"));
    }

    /// Every variable of the image's service in November 2026, of its template, and those of former ones that stay in files.
    #[test]
    fn every_variable_of_the_image_changes_something_or_is_named() {
        let compose = "AUTH_TYPE BRIDGE_AVG_PARTICIPANT_STRESS BRIDGE_STRESS_THRESHOLD ENABLE_AUTH ENABLE_AUTO_OWNER \
            ENABLE_MODERATOR_CHECKS ENABLE_CODEC_VP8 ENABLE_CODEC_VP9 ENABLE_CODEC_AV1 ENABLE_CODEC_H264 \
            ENABLE_CODEC_OPUS_RED ENABLE_JVB_XMPP_SERVER ENABLE_OCTO ENABLE_RECORDING ENABLE_SHARED_DOCUMENT_RANDOM_NAME \
            ENABLE_TRANSCRIPTIONS ENABLE_VISITORS ENABLE_AUTO_LOGIN JICOFO_AUTH_LIFETIME JICOFO_AUTH_PASSWORD \
            JICOFO_AUTH_TYPE JICOFO_BRIDGE_REGION_GROUPS JICOFO_ENABLE_AUTH JICOFO_ENABLE_BRIDGE_HEALTH_CHECKS \
            JICOFO_CONF_INITIAL_PARTICIPANT_WAIT_TIMEOUT JICOFO_CONF_SINGLE_PARTICIPANT_TIMEOUT \
            JICOFO_CONF_SOURCE_SIGNALING_DELAYS JICOFO_CONF_MAX_AUDIO_SENDERS JICOFO_CONF_MAX_VIDEO_SENDERS \
            JICOFO_CONF_STRIP_SIMULCAST JICOFO_CONF_SSRC_REWRITING JICOFO_ENABLE_HEALTH_CHECKS \
            JICOFO_ENABLE_ICE_FAILURE_DETECTION JICOFO_ENABLE_LOAD_REDISTRIBUTION JICOFO_ENABLE_REST \
            JICOFO_HEALTH_CHECKS_USE_PRESENCE JICOFO_ICE_FAILURE_INTERVAL JICOFO_ICE_FAILURE_MIN_ENDPOINTS \
            JICOFO_ICE_FAILURE_THRESHOLD JICOFO_MAX_MEMORY JICOFO_MULTI_STREAM_BACKWARD_COMPAT JICOFO_OCTO_REGION \
            JICOFO_RESTART_REQUEST_MAX JICOFO_RESTART_REQUEST_INTERVAL JICOFO_TRANSLATION_URL_TEMPLATE \
            JICOFO_TRANSLATION_CF_ACCESS_CLIENT_ID JICOFO_TRANSLATION_CF_ACCESS_CLIENT_SECRET JICOFO_TRUSTED_DOMAINS \
            JIBRI_BREWERY_MUC JIBRI_REQUEST_RETRIES JIBRI_PENDING_TIMEOUT JIGASI_BREWERY_MUC JIGASI_SIP_URI JIGASI_TRUSTED_DOMAINS \
            JVB_BREWERY_MUC JVB_XMPP_AUTH_DOMAIN JVB_XMPP_INTERNAL_MUC_DOMAIN JVB_XMPP_PORT \
            JVB_XMPP_SERVER MAX_BRIDGE_PARTICIPANTS OCTO_BRIDGE_SELECTION_STRATEGY PROSODY_VISITORS_MUC_PREFIX SENTRY_DSN \
            SENTRY_ENVIRONMENT SENTRY_RELEASE TZ VISITORS_MAX_PARTICIPANTS VISITORS_MAX_VISITORS_PER_NODE \
            VISITORS_XMPP_AUTH_DOMAIN VISITORS_XMPP_SERVER VISITORS_XMPP_DOMAIN XMPP_DOMAIN XMPP_AUTH_DOMAIN \
            XMPP_INTERNAL_MUC_DOMAIN XMPP_MUC_DOMAIN XMPP_HIDDEN_DOMAIN XMPP_SERVER XMPP_PORT XMPP_RECORDER_DOMAIN \
            MAX_SSRCS_PER_USER MAX_SSRC_GROUPS_PER_USER JIBRI_SIP_BREWERY_MUC JICOFO_LOG_FILE JICOFO_ENABLE_MID ENABLE_VLA \
            JICOFO_VISITORS_REQUIRE_MUC_CONFIG VISITORS_XMPP_PORT JICOFO_CMD JICOFO_COMPONENT_SECRET";
        // What others are behind: without, with them, and without what they are the default of.
        let switches =
            ["ENABLE_AUTH", "ENABLE_JVB_XMPP_SERVER", "ENABLE_RECORDING", "ENABLE_VISITORS", "JIGASI_SIP_URI"];
        let on: Vec<(&str, &str)> =
            switches.iter().map(|name| (*name, "1")).chain([(MARK, "x"), ("VISITORS_XMPP_SERVER", "a")]).collect();
        for name in compose.split_whitespace() {
            let changes = |base: &[(&'static str, &'static str)]| {
                ["1", "jwt", "other", "false"].iter().any(|value| {
                    let base: Vec<_> = base.iter().copied().filter(|(known, _)| *known != name).collect();
                    let with = [&base[..], &[(name, *value)]].concat();
                    from(&with) != from(&base)
                })
            };
            assert!(changes(&on) || changes(&[(MARK, "x")]), "nothing becomes of {name}");
        }
    }
}
