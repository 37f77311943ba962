//! Configuration from file, environment and flags.

mod program_output;

use std::io::Write;
use std::process::Command;

use program_output::program;
use ringbridge_controlplane::cli::{CliError, Request, parse};
use ringbridge_controlplane::config::keys::KEYS;
use ringbridge_controlplane::xmpp::Security;

const GOOD: &str = r#"
xmpp { host = "xmpp.example.net", security = disabled }
brewery = "jvbbrewery@internal.auth.example.net"
bridge {
  jid = "jvb@auth.example.net"
  password = "s3cret"
  listen-addresses = ["192.0.2.1", "2001:db8::1"]
  port = 10001
  cores = [0, 1]
}
focus {
  jid = "focus@auth.example.net"
  password = "other"
  conference-muc = "conference.example.net"
  initial-timeout = 3 s
}
"#;

struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringbridge-config-{}-{name}.conf", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("temporary file");
        file.write_all(text.as_bytes()).expect("written");
        Self(path)
    }

    fn parse(&self, subcommand: &str, more: &[&str]) -> Result<Request, CliError> {
        let mut arguments = vec!["ringbridge", subcommand, "--config", self.0.to_str().expect("UTF-8")];
        arguments.extend(more);
        parse(arguments)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn errors(result: Result<Request, CliError>) -> Vec<String> {
    match result {
        Err(CliError::Config(errors)) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("no configuration error: {other:?}"),
    }
}

#[test]
fn a_file_is_read_and_flags_win() {
    let file = File::new("good", GOOD);
    let Ok(Request::Run(config)) = file.parse("all", &["--port", "12000", "--io", "mmsg"]) else { panic!("refused") };
    let (bridge, focus) = (config.bridge.expect("bridge"), config.focus.expect("focus"));
    assert_eq!((bridge.port, bridge.workers, bridge.cores.as_slice()), (12_000, 2, &[0, 1][..]));
    assert_eq!(bridge.local_addresses.len(), 2);
    assert_eq!(bridge.connections[0].xmpp.security, Security::Disabled);
    assert_eq!(bridge.connections[0].xmpp.password, "s3cret");
    assert_eq!(focus.xmpp.resource.as_deref(), Some("focus"));
    assert_eq!(focus.initial_timeout, std::time::Duration::from_secs(3));
    assert_eq!(focus.single_participant_timeout, std::time::Duration::from_secs(20));
}

#[test]
fn every_mistake_is_named_with_its_remedy_at_once() {
    let file = File::new("bad", &GOOD.replace("port = 10001", "prot = 10001\n  port = 99999"));
    let errors = errors(file.parse("all", &["--rest-listen", "localhost", "--io", "epoll"]));
    assert_eq!(errors.len(), 4, "{errors:#?}");
    let all = errors.join("\n");
    for part in [
        r#"unknown key "bridge.prot" (value "10001"); did you mean "bridge.port"?"#,
        r#"bridge.port = "99999": use a whole number from 1 to 65535"#,
        r#"flag --rest-listen: bridge.rest.listen = "localhost": use an IP address and a port"#,
        r#"bridge.io = "epoll": use one of: auto, uring, mmsg"#,
    ] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
}

#[test]
fn relays_need_a_name_and_a_region() {
    let file = File::new("relay", GOOD);
    let parsed = |flags: &[&str]| match file.parse("bridge", flags) {
        Ok(Request::Run(config)) => config.bridge.expect("bridge").relay,
        other => panic!("{other:?}"),
    };
    assert_eq!(parsed(&["--relay-id", "jvb1", "--region", "eu"]), None, "off by default");
    let complete = ["--relay", "true", "--relay-id", "jvb1", "--region", "eu"];
    let relay = parsed(&complete).expect("on");
    assert_eq!((relay.id.as_str(), relay.ports), ("jvb1", None));
    let ports = ["--relay-min-port", "10100", "--relay-max-port", "10199"];
    assert_eq!(
        parsed(&[&complete[..], &ports].concat()).and_then(|relay| relay.ports).map(|p| p.to_string()).as_deref(),
        Some("10100-10199")
    );
    let errors_of = |flags: &[&str]| errors(file.parse("bridge", flags)).join("\n");
    let all = errors_of(&["--relay", "true"]);
    assert!(all.contains("bridge.relay.id is not set") && all.contains("bridge.region is not set"), "{all}");
    // Other bridges reach the WebSocket where clients do, unless it is said; where it is off, nobody is sent there.
    let url = |more: &[&str]| match file.parse("bridge", &[&complete[..], more].concat()) {
        Ok(Request::Run(config)) => config.bridge.expect("bridge").relay_websocket_base_url,
        other => panic!("{other:?}"),
    };
    let public = ["--websocket-url", "wss://meet.example.net/"];
    assert_eq!(url(&public), "wss://meet.example.net");
    assert_eq!(url(&[&public[..], &["--relay-websocket-url", "ws://10.0.0.1:9090"]].concat()), "ws://10.0.0.1:9090");
    assert_eq!(url(&[&public[..], &["--websocket", "false"]].concat()), "");
    assert_eq!(url(&["--sctp", "false"]), "ws://127.0.0.1:9090");
    assert!(errors_of(&["--relay-websocket-url", "https://a"]).contains("wss://a"));
    let ports = errors_of(&["--relay-min-port", "10100", "--relay-max-port", "10099"]);
    assert!(ports.contains("the lowest port is 10100"), "{ports}");
    assert!(errors_of(&["--relay-min-port", "10100"]).contains("set both"));
    let long = "x".repeat(2_000);
    assert!(errors_of(&["--relay", "true", "--region", "eu", "--relay-id", &long]).contains("at most"));
}

#[test]
fn what_is_missing_is_said_for_the_parts_that_run() {
    let file = File::new("missing", "brewery = \"a@b\"");
    let bridge = errors(file.parse("bridge", &[]));
    assert!(bridge.iter().any(|error| error.starts_with("bridge.jid is not set")), "{bridge:?}");
    assert!(!bridge.iter().any(|error| error.contains("focus.")), "{bridge:?}");
    let absent = parse(["ringbridge", "all", "--config", "/nonexistent/ringbridge.conf"]);
    assert!(errors(absent).iter().any(|error| error.contains("/nonexistent/ringbridge.conf: cannot be read")));
    let broken = File::new("broken", "xmpp { host = ");
    assert!(errors(broken.parse("all", &[])).iter().any(|error| error.contains("cannot be read")));
}

#[test]
fn a_password_file_and_masked_secrets() {
    let password = File::new("password", "from-file\n");
    let flag = password.0.to_str().expect("UTF-8").to_owned();
    let file = File::new("secret", GOOD);
    let Ok(Request::Run(config)) = file.parse("bridge", &["--bridge-password-file", &flag]) else { panic!("refused") };
    assert_eq!(config.bridge.expect("bridge").connections[0].xmpp.password, "from-file");
    let Ok(Request::ShowConfig(table, None)) = file.parse("check-config", &[]) else { panic!("refused") };
    assert!(!table.contains("s3cret") && table.contains("********"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("xmpp.port") && line.ends_with("default")), "{table}");
    let missing = errors(file.parse("bridge", &["--bridge-password-file", "/nonexistent"]));
    assert!(missing[0].contains("cannot be read"), "{missing:?}");
}

#[test]
fn the_stronger_layer_decides_over_the_password() {
    let password = File::new("weaker", "from-file\n");
    let path = password.0.to_str().expect("UTF-8");
    let in_file = File::new("both", &GOOD.replace("password = \"s3cret\"", &format!("password-file = {path:?}")));
    let Ok(Request::Run(config)) = in_file.parse("bridge", &["--bridge-password", "flag"]) else { panic!("refused") };
    assert_eq!(config.bridge.expect("bridge").connections[0].xmpp.password, "flag");
    let twice = File::new("twice", &GOOD.replace("\"s3cret\"", &format!("x\n  password-file = {path:?}")));
    let errors = errors(twice.parse("bridge", &[]));
    assert!(errors.len() == 1 && errors[0].contains("bridge.password is set in the same place"), "{errors:?}");
}

#[test]
fn values_are_checked_for_what_they_are_used_for() {
    let file = File::new("kinds", GOOD);
    for (flag, value, remedy) in [
        ("--bridge-jid", "auth.example.net", "the part before the @ is missing"),
        ("--conference-muc", "room@conference.example.net", "use the service alone: conference.example.net"),
        ("--websocket-url", "https://meet.example.net", "browsers need a WebSocket address: wss://meet.example.net"),
        ("--websocket-url", "meet.example.net", "e.g. wss://meet.example.net"),
        ("--local-address", "192.0.2.1,eth0", "\"eth0\" is not an IP address"),
        ("--cores", "0-3", "is not a core number"),
        ("--workers", "5", "5 workers need 5 cores"),
        ("--initial-timeout", "soon", "use a number with a unit"),
        ("--log-filter", "ringbridge=loud", "use levels"),
    ] {
        let errors = errors(file.parse("all", &[flag, value]));
        assert!(errors.len() == 1 && errors[0].contains(remedy) && errors[0].contains(flag), "{flag}: {errors:?}");
    }
}

#[test]
fn what_follows_from_other_settings() {
    let bare = GOOD.replace("listen-addresses = [\"192.0.2.1\", \"2001:db8::1\"]", "nickname = jvb7");
    let file = File::new("derived", &bare);
    let Ok(Request::Run(config)) = file.parse("bridge", &["--websocket-listen", "192.0.2.9:9091"]) else {
        panic!("refused")
    };
    let bridge = config.bridge.expect("bridge");
    assert_eq!(
        (bridge.websocket_base_url.as_str(), bridge.websocket_server_id.as_str()),
        ("ws://192.0.2.9:9091", "jvb7")
    );
    assert!(!bridge.local_addresses.is_empty());
    let errors = errors(file.parse("bridge", &["--websocket-listen", "0.0.0.0:9090"]));
    assert!(errors[0].starts_with("bridge.websocket.base-url is not set"), "{errors:?}");
    let Ok(Request::Run(config)) = file.parse("bridge", &["--websocket-url", "wss://meet.example.net/"]) else {
        panic!("refused")
    };
    assert_eq!(config.bridge.expect("bridge").websocket_base_url, "wss://meet.example.net");
}

#[test]
fn a_misspelt_secret_is_not_shown() {
    let file = File::new("misspelt", &GOOD.replace("password = \"s3cret\"", "pasword = \"s3cret\""));
    let errors = errors(file.parse("bridge", &[])).join("\n");
    assert!(errors.contains("did you mean \"bridge.password\"?") && !errors.contains("s3cret"), "{errors}");
}

#[test]
fn check_config_shows_origins_of_all_layers() {
    let file = File::new("origins", GOOD);
    let path = file.0.to_str().expect("UTF-8");
    let arguments = ["check-config", "--config", path, "--region", "north"];
    let (code, table) =
        program(&arguments, &[("RINGBRIDGE_PORT", "12345"), ("RINGBRIDGE_IO", ""), ("RUST_LOG", "off")]);
    assert_eq!(code, Some(0), "{table}");
    for (key, value, origin) in [
        ("bridge.port", "12345", "environment RINGBRIDGE_PORT"),
        ("bridge.region", "north", "flag --region"),
        ("bridge.io", "auto", "default"),
        ("bridge.workers", "2", "from the cores"),
        ("bridge.password", "********", path),
        ("focus.conference-muc", "conference.example.net", path),
    ] {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_default();
        assert!(row.contains(value) && row.ends_with(origin), "{key}: {row:?} in\n{table}");
    }
    assert!(!table.contains("s3cret"));
}

#[test]
fn check_config_looks_at_the_configured_part_alone() {
    let text = "brewery = \"b@internal.example.net\"\nfocus { jid = \"focus@auth.example.net\", password = x, conference-muc = \"c.example.net\" }";
    let file = File::new("focus-only", text);
    let (code, table) = program(&["check-config", "--config", file.0.to_str().expect("UTF-8")], &[]);
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains("focus.jid") && !table.contains("bridge.jid"), "{table}");
}

#[test]
fn mistakes_end_the_program_with_2_before_anything_starts() {
    let file = File::new("exit", GOOD);
    let path = file.0.to_str().expect("UTF-8");
    for (arguments, environment, expected) in [
        (vec!["all", "--config", path], ("RINGBRIDGE_PROT", "1"), "did you mean \"RINGBRIDGE_PORT\"?"),
        (
            vec!["bridge", "--config", path],
            ("RINGBRIDGE_PORT", "tcp://10.0.0.1"),
            "environment RINGBRIDGE_PORT: bridge.port",
        ),
        (vec!["check-config", "--config", "/nonexistent"], ("X", ""), "/nonexistent: cannot be read"),
        (vec!["bridge", "--config", path, "--prot", "1"], ("X", ""), "--port"),
    ] {
        let (code, text) = program(&arguments, &[environment]);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        if expected.ends_with("cannot be read") {
            assert_eq!(text.trim().lines().count(), 1, "what else is missing may be in the file: {text}");
        }
    }
}

/// The operator's page lists every setting as it is: this test is what keeps it true.
#[test]
fn the_page_about_configuration_is_complete() {
    let page = include_str!("../../docs/configuration.md");
    for key in KEYS.iter().filter(|key| !key.hidden) {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let row = format!("| `{}` | `--{}` | `{}` | {default} |", key.path, key.flag, key.variable());
        assert!(page.contains(&row), "docs/configuration.md lacks a row that begins with\n{row}");
    }
    assert!(
        page.lines().filter(|line| line.starts_with("| `")).count() == KEYS.iter().filter(|key| !key.hidden).count()
    );
}

/// As an operator of Jitsi Videobridge has it, more or less: the package's file, and what documentation adds.
const JVB: &str = r#"
videobridge {
  http-servers {
    public { port = 9090 }
    private { host = "0.0.0.0", port = 8080 }
  }
  websockets { enabled = true, domain = "meet.example.net:443", tls = true, server-id = "jvb-1" }
  ice { udp { port = 10010 } }
  apis {
    rest { enabled = true }
    xmpp-client {
      configs {
        shard1 { HOSTNAME = "one.example.net", DOMAIN = "auth.one.example.net", USERNAME = "jvb", PASSWORD = "s3cret"
          MUC_JIDS = "jvbbrewery@internal.auth.one.example.net", MUC_NICKNAME = "jvb-1" }
        shard2 { HOSTNAME = "localhost", USERNAME = "jvb", PASSWORD = "s3cret2", MUC_JIDS = "b@internal.two.example.net"
          DOMAIN = "auth.two.example.net", MUC_NICKNAME = "jvb-1", DISABLE_CERTIFICATE_VERIFICATION = true }
      }
    }
  }
  rest { shutdown { enabled = true } }
  stats { interval = 5 seconds }
  cc { trust-bwe = true }
  shutdown { graceful-shutdown-max-duration = 2 hours }
  load-management { reducer-enabled = true, }
}
ice4j {
  harvest {
    mapping {
      stun { addresses = [ "stun.example.net:443" ] }
      static-mappings = [ { local-address = "10.0.0.5", public-address = "198.51.100.7", public-port = 443 }
        { local-address = "10.0.0.6", public-address = "198.51.100.8", name = "second" } ]
    }
    allowed-addresses = [ "10.0.0.5", "10.0.0.6" ]
  }
}
include "custom-jvb.conf"
"#;

#[test]
fn a_file_of_the_reference_starts_a_bridge() {
    let file = File::new("jvb", JVB);
    let config = match file.parse("bridge", &[]) {
        Ok(Request::Run(config)) => config,
        other => panic!("{other:?}"),
    };
    let bridge = config.bridge.expect("bridge");
    let hosts: Vec<_> = bridge.connections.iter().map(|c| (c.id.as_str(), c.xmpp.host.as_str())).collect();
    assert_eq!(hosts, [("shard1", "one.example.net"), ("shard2", "localhost")]);
    assert_eq!(bridge.connections[0].xmpp.security, Security::Required);
    assert_eq!(bridge.connections[1].xmpp.security, Security::IfPossible);
    assert!(bridge.connections[0].xmpp.verify_certificate && !bridge.connections[1].xmpp.verify_certificate);
    assert_eq!((bridge.port, bridge.shutdown_over_rest), (10_010, true));
    assert_eq!(bridge.shutdown.graceful_max_duration, std::time::Duration::from_secs(7_200));
    assert_eq!(bridge.rest_listen.to_string(), "0.0.0.0:8080");
    assert_eq!(bridge.websocket_listen.map(|a| a.to_string()).as_deref(), Some("0.0.0.0:9090"));
    assert_eq!(bridge.websocket_base_url, "wss://meet.example.net:443");
    assert_eq!(bridge.websocket_server_id, "jvb-1");
    assert_eq!(bridge.local_addresses.len(), 2);
    let public: Vec<_> = bridge.public_addresses.iter().map(|p| (p.address.to_string(), p.port)).collect();
    assert_eq!(public, [("198.51.100.7".to_owned(), Some(443)), ("198.51.100.8".to_owned(), None)]);

    let Ok(Request::ShowConfig(table, None)) = file.parse("check-config", &[]) else { panic!("refused") };
    for line in [
        "videobridge.ice.udp.port = 10010  is bridge.port",
        "videobridge.cc.trust-bwe = true  ignored: ",
        "ice4j.harvest.mapping.stun.addresses = stun.example.net:443  is bridge.discovery.stun-servers",
        "connection shard1: jvb at one.example.net, room jvbbrewery@internal.auth.one.example.net",
    ] {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }
    assert!(!table.contains("s3cret"), "{table}");
}

#[test]
fn mistakes_in_a_file_of_the_reference() {
    let broken =
        JVB.replace("udp { port = 10010 }", "udp { prot = 10010 }").replace("HOSTNAME = \"one", "HOSTNMAE = \"one");
    let file = File::new("jvb-bad", &broken);
    let all = errors(file.parse("bridge", &[])).join("\n");
    for part in
        ["did you mean \"videobridge.ice.udp.port\"", "connection shard1: hostnmae", "did you mean \"hostname\""]
    {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    assert!(!all.contains("s3cret"), "{all}");
}

#[test]
fn the_environment_of_the_docker_image_starts_a_bridge() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .arg("check-config")
        .env_clear()
        .envs([
            ("JVB_AUTH_USER", "jvb"),
            ("JVB_AUTH_PASSWORD", "s3cret"),
            ("JVB_BREWERY_MUC", "jvbbrewery"),
            ("JVB_PORT", "10020"),
            ("JVB_ADVERTISE_IPS", "198.51.100.7"),
            ("JVB_STUN_SERVERS", "stun.example.net:443"),
            ("XMPP_SERVER", "xmpp.meet.jitsi"),
            ("XMPP_AUTH_DOMAIN", "auth.meet.jitsi"),
            ("XMPP_INTERNAL_MUC_DOMAIN", "internal-muc.meet.jitsi"),
            ("COLIBRI_REST_ENABLED", "true"),
            ("HOSTNAME", "c0ffee"),
            ("TZ", "UTC"),
        ])
        .output()
        .expect("runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let shows = |key: &str, value: &str| {
        out.lines().any(|line| line.starts_with(&format!("{key} ")) && line.contains(&format!(" {value} ")))
    };
    assert!(shows("bridge.port", "10020") && shows("bridge.public-addresses", "198.51.100.7"), "{out}");
    assert!(shows("bridge.websocket.enabled", "false") && shows("bridge.rest.listen", "0.0.0.0:8080"), "{out}");
    assert!(
        out.contains(
            "connection shard0: jvb at xmpp.meet.jitsi port 5222, room jvbbrewery@internal-muc.meet.jitsi as c0ffee"
        ),
        "{out}"
    );
    assert!(shows("bridge.discovery.stun-servers", "stun.example.net:443"), "{out}");
    assert!(shows("bridge.discovery.aws", "off"), "{out}");
    assert!(!out.contains("s3cret"), "{out}");
}

#[test]
fn top_finds_the_bridge_of_a_configuration() {
    use ringbridge_controlplane::top::Output;
    use std::time::Duration;

    let options = |result| match result {
        Ok(Request::Top(options)) => options,
        other => panic!("not top: {other:?}"),
    };
    for (listen, address) in
        [("192.0.2.1:8081", "192.0.2.1:8081"), ("0.0.0.0:8081", "127.0.0.1:8081"), ("[::]:8081", "[::1]:8081")]
    {
        let file = File::new("top", &format!("{GOOD}\nbridge.rest.listen = \"{listen}\"\n"));
        let found = options(file.parse("top", &[]));
        assert_eq!((found.address.as_str(), found.output), (address, Output::Live));
    }
    let found = options(parse(["ringbridge", "top", "bridge-1:8080", "--json", "--once", "--interval", "0.5"]));
    assert_eq!((found.address.as_str(), found.output), ("bridge-1:8080", Output::Json));
    assert_eq!(found.interval, Duration::from_millis(500));
    for wrong in ["0", "-1", "x", "inf", "NaN"] {
        let result = parse(["ringbridge", "top", &format!("--interval={wrong}")]);
        assert!(matches!(result, Err(CliError::Usage(_))), "{wrong}");
    }
    let broken = File::new("top-broken", "bridge { rest { listn = 1 } }");
    assert!(errors(broken.parse("top", &[]))[0].contains("bridge.rest.listn"));
}

/// The parts of a `jvb.conf` that every bridge needs.
const SHARD: &str = r#"
videobridge.apis.xmpp-client.configs.shard0 { HOSTNAME = "xmpp.example.net", DOMAIN = "auth.example.net", USERNAME = "jvb"
  PASSWORD = "pw1", MUC_JIDS = "jvbbrewery@internal.auth.example.net", MUC_NICKNAME = "jvb-1" }
"#;

/// What `check-config` says of a file, and how it ends.
fn checked(name: &str, text: &str) -> (Option<i32>, String) {
    let file = File::new(name, text);
    program(&["check-config", "--config", file.0.to_str().expect("UTF-8")], &[])
}

#[test]
fn addresses_and_numbers_are_what_is_written() {
    let (code, table) = checked(
        "unquoted",
        "xmpp.host = 203.0.113.50\nbrewery = \"jvbbrewery@internal.auth.example.net\"\n\
         bridge { jid = \"jvb@auth.example.net\", password = 0012345, nickname = 1.10\n public-addresses = [ 10.10.20.30 ] }",
    );
    assert_eq!(code, Some(0), "{table}");
    for value in ["203.0.113.50", "10.10.20.30", "1.10"] {
        assert!(table.contains(&format!(" {value} ")), "{value} is not in\n{table}");
    }
    let file = File::new(
        "zeros",
        "xmpp.host = x\nbrewery = \"b@i.example.net\"\nbridge { jid = \"j@a.example.net\", password = 0012345, nickname = n }",
    );
    let Ok(Request::Run(config)) = file.parse("bridge", &[]) else { panic!("refused") };
    assert_eq!(config.bridge.expect("bridge").connections[0].xmpp.password, "0012345");
    let (code, table) = checked(
        "all-addresses",
        &format!(
            "{SHARD} videobridge.http-servers {{ private.host = 0.0.0.0, public {{ host = 0.0.0.0, port = 9090 }} }}"
        ),
    );
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains("0.0.0.0:8080") && table.contains("0.0.0.0:9090"), "{table}");
}

#[test]
fn what_the_specification_takes_is_taken() {
    for (name, text, shown) in [
        (
            "days",
            "videobridge.shutdown { graceful-shutdown-max-duration = 1 day, shutting-down-delay = 1 minute }",
            "1 day",
        ),
        (
            "yes",
            "videobridge { websockets { enabled = yes, domain = \"meet.example.net\", tls = on }, http-servers.public.port = 9090 }",
            "wss://meet.example.net",
        ),
        ("null", "videobridge { relay { region = null }, ice.udp.port = null }", "10000"),
        (
            "kept",
            "ice4j.harvest.mapping.static-mappings = [ { local-address = \"10.0.0.5\", public-address = \"198.51.100.7\" } ]\nice4j.harvest.mapping.static-mappings = ${?NO_SUCH}",
            "10.0.0.5=198.51.100.7",
        ),
        (
            "unset",
            "ice4j.harvest.mapping.static-mappings = [ { local-address = ${?NO_SUCH}, public-address = ${?NO_SUCH} } ]",
            "without any address  ignored",
        ),
        (
            "camel",
            "ice4j.harvest.mapping.static-mappings = [ { localAddress = \"10.0.0.5\", publicAddress = \"198.51.100.7\" } ]",
            "10.0.0.5=198.51.100.7",
        ),
        (
            "object",
            "ice4j { harvest { mapping { static-mappings { local-address = \"10.0.0.5\", public-address = \"198.51.100.7\" } } } }",
            "10.0.0.5=198.51.100.7",
        ),
        ("custom", "include \"custom-jvb.conf\"", "10000"),
    ] {
        let (code, table) = checked(name, &format!("{SHARD}{text}"));
        assert_eq!(code, Some(0), "{name}: {table}");
        assert!(table.contains(shown), "{name}: {shown} is not in\n{table}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_without_secrets() {
    for (name, text, said) in [
        ("required", "include required(\"not-there.conf\")", "there is no such file"),
        (
            "secret",
            "\nvideobridge.apis.xmpp-client.configs.shard1 {\n PASSWORD = sEcReT@77\n USERNAME = jvb }",
            "'@' cannot stand in a value",
        ),
        (
            "scheme",
            "videobridge { websockets { enabled = true, domain = \"https://meet.example.net\", tls = true }, http-servers.public.port = 9090 }",
            "write \"meet.example.net\"",
        ),
        (
            "misspelt",
            "ice4j.harvest.mapping.static-mappings = [ { local-address = \"10.0.0.5\", public-adress = \"198.51.100.7\" } ]",
            "did you mean \"public-address\"?",
        ),
        ("properties", "\norg.jitsi.videobridge.xmpp.user.shard.PASSWORD=sEcReT\n", "file of Java properties"),
    ] {
        let (code, table) = checked(name, &format!("{SHARD}{text}"));
        assert_eq!(code, Some(2), "{name}: {table}");
        assert!(table.contains(said) && !table.contains("sEcReT"), "{name}: {table}");
    }
}

#[test]
fn the_environment_that_people_have() {
    let needed = [("JVB_AUTH_PASSWORD", "x"), ("HOSTNAME", "c0ffee")];
    let with = |more: &[(&'static str, &'static str)]| program(&["check-config"], &[&needed[..], more].concat());
    let (code, table) = with(&[("JVB_ADVERTISE_IPS", "198.51.100.7,")]);
    assert!(code == Some(0) && table.contains(" 198.51.100.7 "), "{table}");
    let (code, table) =
        with(&[("XMPP_SERVER", "[2001:db8::1]:5333"), ("JVB_DISABLE_XMPP", "1"), ("JVB_USE_USRSCTP", "1")]);
    assert!(code == Some(0) && table.contains("at 2001:db8::1 port 5333,"), "{table}");
    for ignored in ["JVB_DISABLE_XMPP = 1  ignored", "JVB_USE_USRSCTP = 1  ignored"] {
        assert!(table.contains(ignored), "{table}");
    }
    let (code, table) = with(&[("JVB_PORT", "\"10000\"")]);
    assert!(code == Some(2) && table.contains("JVB_PORT"), "{table}");
}

/// The case of the field: public-address-unused, and its kind.
#[test]
fn a_public_address_that_nothing_local_stands_behind_is_warned_of() {
    for (name, local, public, warned) in [
        (
            "no-such-local",
            "192.0.2.2",
            "10.9.9.9=198.51.100.7",
            Some("10.9.9.9 is none of the local addresses (192.0.2.2)"),
        ),
        ("no-such-family", "192.0.2.2", "2001:db8::7", Some("no local IPv6 address (192.0.2.2)")),
        ("no-such-family-4", "2001:db8::1", "198.51.100.7#443", Some("no local IPv4 address (2001:db8::1)")),
        ("one-of-two", "192.0.2.2,192.0.2.3", "198.51.100.7,192.0.2.9=198.51.100.8", Some("192.0.2.9 is none of")),
        ("wildcard-4", "0.0.0.0", "2001:db8::7", Some("no local IPv6 address")),
        ("wildcard-6", "::", "198.51.100.7", Some("no local IPv4 address")),
        ("right", "192.0.2.2,2001:db8::1", "192.0.2.2=198.51.100.7,198.51.100.8#443,2001:db8::7", None),
    ] {
        let file = File::new(name, &GOOD.replace(r#"listen-addresses = ["192.0.2.1", "2001:db8::1"]"#, ""));
        let path = file.0.to_str().expect("UTF-8");
        let variables = [("RINGBRIDGE_LOCAL_ADDRESS", local), ("RINGBRIDGE_PUBLIC_ADDRESS", public)];
        let (code, text) = program(&["check-config", "--config", path], &variables);
        assert_eq!(code, Some(0), "{text}");
        let warnings: Vec<_> = text.lines().filter(|line| line.starts_with("WARNING ")).collect();
        match warned {
            Some(part) => {
                assert_eq!(warnings.len(), 1, "{name}: {text}");
                assert!(warnings[0].contains(part) && warnings[0].contains("bridge.public-addresses"), "{warnings:?}");
            }
            None => assert!(warnings.is_empty(), "{name}: {text}"),
        }
    }
}

#[test]
fn where_the_public_address_is_looked_for() {
    let stun = "ice4j.harvest.mapping.stun";
    let aws = "ice4j.harvest.mapping.aws";
    for (name, text, servers, metadata) in [
        ("none", String::new(), "", "auto"),
        (
            "stun",
            format!("{stun}.addresses = [ \"a.example.net:443\", \"[2001:db8::1]:3478\" ]"),
            "a.example.net:443,[2001:db8::1]:3478",
            "auto",
        ),
        ("stun-off", format!("{stun} {{ addresses = [ \"a.example.net:443\" ], enabled = false }}"), "", "auto"),
        (
            "stun-on",
            format!("{stun} {{ addresses = [ a.example.net\":443\", \"\" ], enabled = true }}"),
            "a.example.net:443,",
            "auto",
        ),
        ("aws-off", format!("{aws}.enabled = false"), "", "off"),
        ("aws-on", format!("{aws}.enabled = true"), "", "auto"),
        ("aws-force", format!("{aws} {{ enabled = true, force = true }}"), "", "on"),
        ("aws-force-off", format!("{aws} {{ enabled = no, force = yes }}"), "", "off"),
        ("own", "bridge.discovery { stun-servers = \"b.example.net\", aws = on }".to_owned(), "b.example.net", "on"),
    ] {
        let (code, table) = checked(name, &format!("{SHARD}{text}"));
        assert_eq!(code, Some(0), "{name}: {table}");
        let value = |key: &str| {
            let line = table.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_default();
            let rest = line.strip_prefix(key).unwrap_or_default();
            rest.trim_start().split("  ").next().unwrap_or_default().trim().to_owned()
        };
        let found = value("bridge.discovery.stun-servers");
        assert!(found == servers || (servers.is_empty() && found == "not set"), "{name}: {found:?} in {table}");
        assert_eq!(value("bridge.discovery.aws"), metadata, "{name}: {table}");
    }
    for (name, text, said) in [
        ("stun-url", format!("{stun}.addresses = [ \"https://a.example.net\" ]"), "use host:port"),
        ("stun-port", format!("{stun}.addresses = [ \"a.example.net:0\" ]"), "use host:port"),
        ("stun-word", format!("{stun}.enabled = maybe"), "use true or false"),
        ("aws-word", format!("{aws}.enabled = maybe"), "use true or false"),
        (
            "stun-misspelt",
            format!("{stun}.adresses = [ \"a.example.net:443\" ]"),
            "did you mean \"ice4j.harvest.mapping.stun.addresses\"?",
        ),
        ("own-word", "bridge.discovery.aws = always".to_owned(), "use one of: off, auto, on"),
        ("own-address", "bridge.discovery.aws-address = 169.254.169.254".to_owned(), "an IP address and a port"),
    ] {
        let (code, text) = checked(name, &format!("{SHARD}{text}"));
        assert!(code == Some(2) && text.contains(said), "{name}: {text}");
    }
}
