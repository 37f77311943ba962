//! Configurations of Jicofo as people have them (`configurations/jicofo-*.conf`, and the environment of its container): what
//! `check-config` says of each, every key with what became of it.

mod program_output;

use std::path::PathBuf;

use program_output::program;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configurations");

/// `check-config` with nothing in the environment but these variables.
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    program(&[&["check-config"], arguments].concat(), variables)
}

/// Of one of the files.
fn check_file(file: &str) -> (Option<i32>, String) {
    let path = PathBuf::from(FOLDER).join(file);
    check(&["--config", path.to_str().expect("UTF-8")], &[])
}

/// A file of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringbridge-jicofo-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("written");
        Self(path)
    }

    fn check(&self) -> (Option<i32>, String) {
        check(&["--config", self.0.to_str().expect("UTF-8")], &[])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The value of a setting of ours in what was printed.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let row = text.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_default();
    row[key.len().min(row.len())..].trim_start().split("  ").next().unwrap_or_default()
}

fn holds(file: &str, values: &[(&str, &str)], lines: &[&str]) {
    let (code, text) = check_file(file);
    assert_eq!(code, Some(0), "{file}: {text}");
    for (key, expected) in values {
        assert_eq!(value(&text, key), *expected, "{file}: {key} in\n{text}");
    }
    for line in lines {
        assert!(text.lines().any(|said| said.starts_with(line)), "{file}: {line:?} is not in\n{text}");
    }
    every_key_is_named(file, &text);
    assert!(!text.contains("bridge.port"), "{file} configures a focus alone");
}

/// By the words before `=` or `:` in the file itself, whatever the test expects.
fn every_key_is_named(file: &str, said: &str) {
    // What is put together from several.
    let together = ["hostname", "port", "domain", "username", "xmpp-domain", "conference-muc-jid", "use-tls", "host"];
    let text = std::fs::read_to_string(PathBuf::from(FOLDER).join(file)).expect("a fixture");
    let mut seen = 0;
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', '/'])) {
        for part in line.split(['{', ',']) {
            let Some(at) = part.find(['=', ':']).filter(|_| !part.contains("://")) else { continue };
            let key = part[..at].trim().trim_matches('"').rsplit('.').next().unwrap_or_default();
            // Groups, and the sizes of rooms in a list of delays.
            if key.is_empty() || part[at + 1..].trim().is_empty() || key.parse::<u32>().is_ok() {
                continue;
            }
            seen += 1;
            let named = said.contains(&format!(".{key} ")) || said.contains(&format!(".{key}."));
            assert!(named || together.contains(&key), "{file}: nothing is said of {key} in\n{said}");
        }
    }
    assert!(seen >= 5, "{file}: {seen} keys");
}

#[test]
fn the_debian_package() {
    holds(
        "jicofo-debian.conf",
        &[
            ("focus.jid", "focus@auth.meet.example.net"),
            ("focus.password", "********"),
            ("focus.conference-muc", "conference.meet.example.net"),
            ("brewery", "JvbBrewery@internal.auth.meet.example.net"),
            ("xmpp.host", "127.0.0.1"),
            ("xmpp.security", "if-possible"),
            ("xmpp.verify-certificate", "true"),
            ("focus.rest.listen", "127.0.0.1:8888"),
            ("focus.sctp.enabled", "true"),
        ],
        &[
            "jicofo.xmpp.client.password = ********  is focus.password",
            "jicofo.xmpp.client.client-proxy = focus.meet.example.net  is focus.client-proxy",
            "jicofo.xmpp.client is focus.jid",
            "jicofo.xmpp.client.xmpp-domain is focus.conference-muc",
            "jicofo.xmpp.client.xmpp-domain is focus.client-domain",
        ],
    );
}

#[test]
fn the_containers_file() {
    holds(
        "jicofo-docker.conf",
        &[
            ("xmpp.host", "xmpp.meet.jitsi"),
            ("xmpp.port", "5222"),
            ("xmpp.security", "required"),
            ("xmpp.verify-certificate", "false"),
            ("focus.jid", "focus@auth.meet.jitsi"),
            ("focus.conference-muc", "muc.meet.jitsi"),
            ("brewery", "jvbbrewery@internal-muc.meet.jitsi"),
            ("focus.initial-timeout", "15000"),
            ("focus.single-participant-timeout", "30 seconds"),
            ("focus.rest.listen", "0.0.0.0:8888"),
            ("focus.ice-failure.enabled", "true"),
            ("focus.ice-failure.interval", "60 seconds"),
            ("focus.ice-failure.min-endpoints", "40"),
            ("focus.ice-failure.percent", "10"),
            ("focus.client-domain", "meet.jitsi"),
            ("focus.max-ssrcs-per-user", "20"),
            ("focus.max-ssrc-groups-per-user", "20"),
            ("focus.source-signaling-delays", "100 = 2000, 50 = 1000"),
        ],
        &[
            "jicofo.codec.video.av1.enabled = false  ",
            "jicofo.conference.max-ssrcs-per-user is focus.max-ssrcs-per-user",
            "jicofo.conference.source-signaling-delays = 100 = 2000, 50 = 1000  is focus.source-signaling-delays",
            "jicofo.translation.http-headers.CF-Access-Client-Secret = ********  ignored: ",
            "jicofo.conference.enable-auto-owner = true  is focus.auto-owner",
        ],
    );
}

#[test]
fn keys_of_years_ago() {
    holds(
        "jicofo-old-keys.conf",
        &[
            ("xmpp.host", "192.0.2.10"),
            ("xmpp.port", "5333"),
            ("xmpp.verify-certificate", "true"),
            ("focus.conference-muc", "conference.example.net"),
            ("focus.min-participants", "1"),
            ("focus.ice-restart", "no"),
            ("focus.sctp.enabled", "off"),
            ("focus.rest.listen", "127.0.0.1:8889"),
        ],
        &[
            "jicofo.bridge.max-bridge-packet-rate = 50000  ignored: ",
            "jicofo.task-pools.shared-pool-max-threads = 1500  ignored: ",
            "tracing.enabled = false  ignored: ",
        ],
    );
}

#[test]
fn no_fixture_shows_its_password() {
    for (file, secrets) in [
        ("jicofo-debian.conf", &["p4ssw0rd#y"][..]),
        ("jicofo-docker.conf", &["0f9e8d7c6b5b", "c1ientid", "c1ientsecret"]),
        ("jicofo-old-keys.conf", &["0ldsecret", "0lderkey"]),
    ] {
        let text = std::fs::read_to_string(PathBuf::from(FOLDER).join(file)).expect("a fixture");
        let (_, shown) = check_file(file);
        for secret in secrets {
            assert!(text.contains(secret) && !shown.contains(secret), "{secret} of {file}");
        }
    }
}

const LEAST: &str = "jicofo { xmpp.client { domain = auth.example.net, password = s3cret, xmpp-domain = example.net }\n\
                     bridge.brewery-jid = \"b@internal.example.net\" }\n";

#[test]
fn mistakes_are_named_and_no_secret_is_shown() {
    for (more, expected) in [
        ("jicofo.xmpp.client.pasword = s3cret2", "did you mean \"jicofo.xmpp.client.password\"?"),
        ("jicofo.bridge.brewery-jidd = x", "did you mean \"jicofo.bridge.brewery-jid\"?"),
        ("jicofo.conference.initial-timeout = soon", "focus.initial-timeout = \"soon\": use a number with a unit"),
        ("jicofo.xmpp.client.disable-certificate-verification = maybe", "use true or false"),
        ("jicofo.xmpp.client.use-tls = 7", "use true or false"),
        ("jicofo.rest.port = none", "focus.rest.listen = \"127.0.0.1:none\": use an IP address and a port"),
        ("jicofo.bridge.brewery-jid = \"internal.example.net\"", "the part before the @ is missing"),
        ("jicofo.xmpp.client.conference-muc-jid = \"r@muc.example.net\"", "use the service alone: muc.example.net"),
        (
            "jicofo.bridge.ice-failure-detection.threshold = lots",
            "focus.ice-failure.percent = \"lots\": use a whole number",
        ),
        (
            "jicofo.bridge.ice-failure-detection.threshold = 0.001",
            "focus.ice-failure.percent = \"0\": use a whole number",
        ),
        ("jicofo.bridge.ice-failure-detection.threshold = 1e300", "use a whole number from 1 to 100"),
        ("jicofo.bridge.ice-failure-detection.threshold = NaN", "use a whole number from 1 to 100"),
        ("jicofo.xmpp.client.username = \"a b\"", "focus.jid = \"a b@auth.example.net\""),
        ("JICOFO_AUTH_PASSWORD=s3cret3\nJICOFO_HOSTNAME=example.net", "unknown key \"JICOFO_AUTH_PASSWORD\""),
    ] {
        let (code, text) = Scratch::new("mistakes.conf", &format!("{LEAST}{more}\n")).check();
        assert!(code == Some(2) && text.contains(expected), "{more}: {code:?} {text}");
        assert!(!text.contains("s3cret"), "{more}: {text}");
    }
}

#[test]
fn what_cannot_be_passed_over_is_refused() {
    for (more, expected) in [
        ("jicofo.xmpp.client.resource = focus2", "clients address the focus as .../focus"),
        ("jicofo.xmpp.client.enabled = no", "cannot do without"),
        (
            "jicofo.xmpp.service { enabled = true, hostname = jvb.example.net, domain = d, password = p }",
            "give the bridges accounts there",
        ),
    ] {
        let (code, text) = Scratch::new("unserved.conf", &format!("{LEAST}{more}\n")).check();
        assert!(code == Some(2) && text.contains("is not served: ") && text.contains(expected), "{more}: {text}");
        assert_eq!(text.trim().lines().count(), 1, "{more}: {text}");
    }
    // The same words of a switch that ask for nothing else.
    for more in [
        "jicofo.conference.enable-auto-owner = yes",
        "jicofo.conference.enable-moderator-checks = on",
        "jicofo.authentication.enabled = off",
        "jicofo.xmpp.client.resource = focus",
        "jicofo.xmpp.service { enabled = true, hostname = localhost, port = 5222 }",
        "jicofo.xmpp.service { enabled = no, hostname = jvb.example.net }",
        "jicofo.xmpp.client.resource = other\njicofo.xmpp.client.resource = focus",
    ] {
        let (code, text) = Scratch::new("served.conf", &format!("{LEAST}{more}\n")).check();
        assert_eq!(code, Some(0), "{more}: {text}");
    }
}

/// Login, recorders, gateways.
#[test]
fn what_a_whole_site_has() {
    let more = "jicofo { authentication { enabled = true, type = JWT, login-url = meet.example.net, authentication-lifetime = 12 hours\n\
                enable-auto-login = false }, conference { enable-auto-owner = false, enable-moderator-checks = false }\n\
                jibri { brewery-jid = \"jibris@internal.example.net\", pending-timeout = 45 seconds, num-retries = 3 }\n\
                jibri-sip.brewery-jid = \"sip@internal.example.net\", jigasi.brewery-jid = \"jigasis@internal.example.net\"\n\
                xmpp { trusted-domains = [recorder.example.net], client.client-proxy = focus.example.net } }";
    let (code, text) = Scratch::new("whole.conf", &format!("{LEAST}{more}\n")).check();
    assert_eq!(code, Some(0), "{text}");
    for (key, expected) in [
        ("focus.login.type", "jwt"),
        ("focus.login.domain", "meet.example.net"),
        ("focus.login.lifetime", "12 hours"),
        ("focus.login.auto", "false"),
        ("focus.auto-owner", "false"),
        ("focus.moderator-checks", "false"),
        ("focus.jibri.brewery", "jibris@internal.example.net"),
        ("focus.jibri.pending-timeout", "45 seconds"),
        ("focus.jibri.retries", "3"),
        ("focus.jibri.sip-brewery", "sip@internal.example.net"),
        ("focus.jigasi.brewery", "jigasis@internal.example.net"),
        ("focus.trusted-domains", "recorder.example.net"),
        ("focus.client-proxy", "focus.example.net"),
    ] {
        assert_eq!(value(&text, key), expected, "{key} in\n{text}");
    }
    // A login that is off is none, whatever its type; one without a domain would let nobody in.
    let off = "jicofo.authentication { enabled = false, type = XMPP, login-url = meet.example.net }";
    let (code, text) = Scratch::new("off.conf", &format!("{LEAST}{off}\n")).check();
    assert_eq!((code, value(&text, "focus.login.type")), (Some(0), "none"), "{text}");
    let nowhere = "jicofo.authentication { enabled = true, type = XMPP }";
    let (code, text) = Scratch::new("nowhere.conf", &format!("{LEAST}{nowhere}\n")).check();
    assert!(code == Some(2) && text.contains("focus.login.domain"), "{text}");
}

#[test]
fn both_programs_in_one_file() {
    let bridge = "videobridge { ice.udp.port = 10020, apis.xmpp-client.configs.a { HOSTNAME = localhost, DOMAIN = auth.example.net\n\
                  USERNAME = jvb, PASSWORD = s3cret, MUC_JIDS = \"b@internal.example.net\", MUC_NICKNAME = n } }\n";
    let (code, text) = Scratch::new("both.conf", &format!("{LEAST}{bridge}")).check();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!((value(&text, "bridge.port"), value(&text, "focus.jid")), ("10020", "focus@auth.example.net"));
}

/// Files of Java properties, whole and in part.
#[test]
fn old_properties_are_refused_with_their_successors() {
    let text = "org.jitsi.jicofo.BRIDGE_MUC=JvbBrewery@internal.auth.example.net\norg.jitsi.jicofo.auth.URL=XMPP:example.net\n\
                org.jitsi.jicofo.FOCUS_USER_PASSWORD=s3cret\n";
    let (code, said) = Scratch::new("sip-communicator.properties", text).check();
    assert_eq!(code, Some(2), "{said}");
    for part in ["line 1: org.jitsi.jicofo.BRIDGE_MUC: today jicofo.bridge.brewery-jid", "line 2: ", "line 3: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn the_environment_of_the_container() {
    let variables = [
        ("JICOFO_AUTH_PASSWORD", "s3cret"),
        ("XMPP_SERVER", "[2001:db8::7]:5333"),
        ("XMPP_DOMAIN", "meet.example.net"),
        ("XMPP_AUTH_DOMAIN", "auth.meet.example.net"),
        ("XMPP_MUC_DOMAIN", "muc.meet.example.net"),
        ("XMPP_INTERNAL_MUC_DOMAIN", "internal.meet.example.net"),
        ("JICOFO_ENABLE_REST", "1"),
        ("JICOFO_CONF_SINGLE_PARTICIPANT_TIMEOUT", "45 seconds"),
        ("JICOFO_CONF_STRIP_SIMULCAST", "true"),
        ("MAX_SSRCS_PER_USER", ""),
        ("JICOFO_TRANSLATION_CF_ACCESS_CLIENT_SECRET", "s3cret2"),
        ("TZ", "Europe/Berlin"),
        ("ENABLE_AUTH", "0"),
    ];
    let (code, text) = check(&[], &variables);
    assert_eq!(code, Some(0), "{text}");
    for (key, expected) in [
        ("xmpp.host", "2001:db8::7"),
        ("xmpp.port", "5333"),
        ("xmpp.verify-certificate", "false"),
        ("focus.jid", "focus@auth.meet.example.net"),
        ("focus.conference-muc", "muc.meet.example.net"),
        ("brewery", "jvbbrewery@internal.meet.example.net"),
        ("focus.rest.listen", "0.0.0.0:8888"),
        ("focus.single-participant-timeout", "45 seconds"),
    ] {
        assert_eq!(value(&text, key), expected, "{key} in\n{text}");
    }
    for line in [
        "JICOFO_CONF_SINGLE_PARTICIPANT_TIMEOUT = 45 seconds  is focus.single-participant-timeout",
        "JICOFO_CONF_STRIP_SIMULCAST = true  ignored: ",
        "TZ = Europe/Berlin  ignored: ",
        "JICOFO_AUTH_PASSWORD = ********  is focus.password",
    ] {
        assert!(text.lines().any(|said| said.starts_with(line)), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("s3cret") && !text.contains("bridge.port"), "{text}");
}

/// One `.env` for all containers: the bridge's process does not fail over what the focus cannot do.
#[test]
fn one_environment_for_bridge_and_focus() {
    let variables = [("JICOFO_AUTH_PASSWORD", "x"), ("JVB_AUTH_PASSWORD", "y"), ("ENABLE_JVB_XMPP_SERVER", "1")];
    let (code, text) = check(&[], &variables);
    assert!(code == Some(2) && text.contains("ENABLE_JVB_XMPP_SERVER=0 in a container"), "{text}");
    let (code, text) = check(&[], &variables[..2]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("bridge.port") && text.contains("focus.jid"), "{text}");
    assert!(text.contains("connection shard0: jvb at xmpp.meet.jitsi"), "{text}");
}

/// How bridges are chosen, in the words of both programs.
#[test]
fn several_bridges_for_one_conference() {
    let file = |bridge: &str| {
        format!(
            "jicofo {{ xmpp.client {{ hostname = localhost, domain = auth.meet.example.net, xmpp-domain = meet.example.net, \
             password = x }}\n bridge {{ brewery-jid = \"b@internal.auth.meet.example.net\"\n {bridge} }}\n \
             octo {{ enabled = true, allow-mixed-versions = true, sctp-datachannels = false }}, local-region = us-east }}"
        )
    };
    let settings = "selection-strategy = RegionBasedBridgeSelectionStrategy, max-bridge-participants = -1\n\
                    max-bridge-participants-per-interval = 30, max-bridge-participants-interval = 2 minutes\n\
                    load-redistribution { enabled = true, stress-threshold = 0.95, endpoints = 5 }\n\
                    stress-threshold = 0.75, region-groups = [ [ us-east, us-west ], [ eu-west ] ]";
    let (code, text) = Scratch::new("octo", &file(settings)).check();
    assert_eq!(code, Some(0), "{text}");
    for (key, expected) in [
        ("focus.relay.enabled", "true"),
        ("focus.relay.mixed-versions", "true"),
        ("focus.relay.sctp", "false"),
        ("focus.selection.strategy", "region-based"),
        ("focus.selection.max-participants", "-1"),
        ("focus.selection.max-recent-participants", "30"),
        ("focus.selection.recent-interval", "2 minutes"),
        ("focus.selection.stress-percent", "75"),
        ("focus.selection.region-groups", "us-east us-west, eu-west"),
        ("focus.selection.local-region", "us-east"),
        ("focus.load-redistribution.enabled", "true"),
        ("focus.load-redistribution.stress-percent", "95"),
        ("focus.load-redistribution.endpoints", "5"),
    ] {
        assert_eq!(value(&text, key), expected, "{key} in\n{text}");
    }
    for (strategy, expected) in [
        ("selection-strategy = org.jitsi.jicofo.bridge.SplitBridgeSelectionStrategy", "split"),
        ("selection-strategy = IntraRegionBridgeSelectionStrategy", "intra-region"),
        ("selection-strategy = VisitorSelectionStrategy", "single"),
        (
            "selection-strategy = VisitorSelectionStrategy, participant-selection-strategy = RegionBasedBridgeSelectionStrategy",
            "region-based",
        ),
        ("participant-selection-strategy = SplitBridgeSelectionStrategy", "single"),
    ] {
        let (code, text) = Scratch::new("strategy", &file(strategy)).check();
        assert_eq!((code, value(&text, "focus.selection.strategy")), (Some(0), expected), "{strategy}: {text}");
    }
    for (wrong, hint) in [
        ("selection-strategy = com.example.MyStrategy", "use one of: single, region-based"),
        ("stress-threshold = high", "use a whole number"),
        ("region-groups = [ { a = b } ]", "is not a region"),
    ] {
        let (code, text) = Scratch::new("wrong-strategy", &file(wrong)).check();
        assert!(code != Some(0) && text.contains(hint), "{wrong}: {text}");
    }
    // In the container's words, where visitors have bridges of their own.
    let of = |variables: &[(&str, &str)]| {
        let all = [&[("JICOFO_AUTH_PASSWORD", "x"), ("ENABLE_OCTO", "1")], variables].concat();
        let (code, text) = check(&[], &all);
        assert_eq!(code, Some(0), "{text}");
        let get = |key: &str| value(&text, key).to_owned();
        (get("focus.selection.strategy"), get("focus.relay.enabled"), get("focus.selection.region-groups"))
    };
    let groups = ("JICOFO_BRIDGE_REGION_GROUPS", r#"["us-east", "us-west"], ["eu-west"]"#);
    let split = ("OCTO_BRIDGE_SELECTION_STRATEGY", "SplitBridgeSelectionStrategy");
    let texts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(of(&[]), texts("single", "true", "not set"));
    assert_eq!(of(&[split, groups]), texts("split", "true", groups.1));
    assert_eq!(of(&[split, ("ENABLE_VISITORS", "1")]), texts("region-based", "true", "not set"));
}
