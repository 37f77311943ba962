//! Configuration from file, environment and flags.

use std::io::Write;

use ringbridge_controlplane::cli::{CliError, Request, parse};
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
    assert_eq!(bridge.xmpp.security, Security::Disabled);
    assert_eq!(bridge.xmpp.password, "s3cret");
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
    assert_eq!(config.bridge.expect("bridge").xmpp.password, "from-file");
    let Ok(Request::ShowConfig(table)) = file.parse("check-config", &[]) else { panic!("refused") };
    assert!(!table.contains("s3cret") && table.contains("********"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("xmpp.port") && line.ends_with("default")), "{table}");
    let missing = errors(file.parse("bridge", &["--bridge-password-file", "/nonexistent"]));
    assert!(missing[0].contains("cannot be read"), "{missing:?}");
}
