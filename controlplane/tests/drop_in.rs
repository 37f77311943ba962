//! The program in the place of Jitsi Videobridge: its configuration starts it, and what is wrong is one line with a remedy, again
//! and again no faster than the back-off.

mod http;
mod program_log;
mod prosody;
mod stun_server;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use program_log::ProgramLog;
use prosody::{PASSWORD, Prosody, free_port, loopback};
use stun_server::StunServer;

/// A running bridge, its log in a file; killed when dropped.
struct Bridge {
    child: Child,
    log: ProgramLog,
    rest: SocketAddr,
}

impl Bridge {
    /// `ringbridge bridge` with these arguments and variables beside the address of its pages.
    fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let log = ProgramLog(folder.join(format!("drop-in-{name}-{}.log", std::process::id())));
        let rest = loopback();
        let child = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
            .arg("bridge")
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .env("RINGBRIDGE_REST_LISTEN", rest.to_string())
            // On by default with a `jvb.conf`; nobody listens there.
            .env("RINGBRIDGE_AWS_METADATA_ADDRESS", "127.0.0.1:9")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log.0).expect("a log file"))
            .spawn()
            .expect("starts");
        Self { child, log, rest }
    }

    /// The answer of the health check, when there is one.
    async fn health(&mut self) -> String {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("ended with {status}: {}", self.log.read());
            }
            if tokio::net::TcpStream::connect(self.rest).await.is_ok() {
                return http::get(self.rest, "/about/health").await;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.log.read());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn healthy(&mut self) {
        let start = Instant::now();
        while !self.health().await.starts_with("HTTP/1.1 200") {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.log.read());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Lines of the log above information, once it has ended in order.
    fn complaints_to_the_end(mut self) -> Vec<String> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let status = self.child.wait().expect("a child");
        assert!(status.success(), "{status}: {}", self.log.read());
        self.log.complaints()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.log.0);
        }
    }
}

/// A `jvb.conf` as the Debian package's set-up leaves it, for the server of the test.
fn jvb_conf(port: u16, media: u16, password: &str, stun: SocketAddr) -> String {
    format!(
        r#"
videobridge {{
  http-servers {{ public {{ port = {websocket} }} }}
  websockets {{ enabled = true, domain = "meet.test:443", tls = true }}
  ice {{ udp {{ port = {media} }} }}
  stats {{ enabled = true }}
  apis {{
    xmpp-client {{
      configs {{
        shard {{
          HOSTNAME = "127.0.0.1"
          PORT = {port}
          DOMAIN = "auth.meet.test"
          USERNAME = "jvb"
          PASSWORD = "{password}"
          MUC_JIDS = "jvbbrewery@internal.auth.meet.test"
          MUC_NICKNAME = "3f1c0a5e-5f5b-4b8e-9a43-1e2d3c4b5a69"
          DISABLE_CERTIFICATE_VERIFICATION = true
        }}
      }}
    }}
  }}
}}
ice4j {{ harvest {{ mapping {{ stun {{ addresses = [ "{stun}" ] }} }} }} }}
"#,
        websocket = free_port(),
    )
}

struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.conf", std::process::id()));
        std::fs::write(&path, text).expect("written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_jvb_conf_and_a_docker_environment_as_they_are() {
    let Some(server) = Prosody::start() else { return };
    let stun = StunServer::start("198.51.100.7".parse().expect("an address"));
    let file = File::new("jvb", &jvb_conf(server.port, free_port(), PASSWORD, stun.address()));
    let mut bridge = Bridge::start("jvb", &["--config", file.path()], &[]);
    bridge.healthy().await;
    assert_eq!(bridge.complaints_to_the_end(), Vec::<String>::new());

    let (port, media, servers) = (server.port.to_string(), free_port().to_string(), stun.address().to_string());
    let environment = [
        ("JVB_AUTH_USER", "jvb"),
        ("JVB_AUTH_PASSWORD", PASSWORD),
        ("JVB_BREWERY_MUC", "jvbbrewery"),
        ("JVB_PORT", media.as_str()),
        ("JVB_STUN_SERVERS", servers.as_str()),
        ("XMPP_SERVER", "127.0.0.1"),
        ("XMPP_PORT", port.as_str()),
        ("XMPP_DOMAIN", "meet.test"),
        ("XMPP_AUTH_DOMAIN", "auth.meet.test"),
        ("XMPP_INTERNAL_MUC_DOMAIN", "internal.auth.meet.test"),
        ("PUBLIC_URL", "https://meet.test"),
        ("HOSTNAME", "c0ffee"),
        ("TZ", "UTC"),
    ];
    let mut bridge = Bridge::start("docker", &[], &environment);
    bridge.healthy().await;
    assert_eq!(bridge.complaints_to_the_end(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_and_an_absent_server_are_tried_again_with_back_off() {
    let Some(server) = Prosody::start() else { return };
    let stun = StunServer::start("198.51.100.7".parse().expect("an address"));
    for (name, port, password, remedy) in [
        (
            "password",
            server.port,
            "wrong",
            "set the same password on both sides (prosodyctl passwd jvb@auth.meet.test)",
        ),
        ("absent", free_port(), PASSWORD, "check that the XMPP server runs"),
    ] {
        let file = File::new(name, &jvb_conf(port, free_port(), password, stun.address()));
        let mut bridge = Bridge::start(name, &["--config", file.path()], &[]);
        let health = bridge.health().await;
        assert!(health.starts_with("HTTP/1.1 500"), "{health}");
        // A line for each try: at the start, 1 s later, 2 s after that.
        let start = Instant::now();
        let tries = loop {
            let tries: Vec<_> = bridge.log.complaints().into_iter().filter(|line| line.contains(remedy)).collect();
            if tries.len() >= 2 {
                break tries;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{:#?}", bridge.log.complaints());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(start.elapsed() > Duration::from_millis(500), "tried again at once");
        assert!(tries[0].contains("retry_in=1s") && tries[1].contains("retry_in=2s"), "{tries:#?}");
        assert!(bridge.health().await.starts_with("HTTP/1.1 500"), "it runs still");
    }
}

#[tokio::test]
async fn a_public_address_that_is_not_told_is_warned_of_at_the_start() {
    let file = File::new("unused", &jvb_conf(free_port(), free_port(), PASSWORD, loopback()));
    for (public, reason) in [
        ("10.9.9.9=198.51.100.7", "10.9.9.9 is none of the local addresses (127.0.0.1)"),
        ("2001:db8::7", "the bridge has no local IPv6 address (127.0.0.1)"),
    ] {
        let variables = [("RINGBRIDGE_LOCAL_ADDRESS", "127.0.0.1"), ("RINGBRIDGE_PUBLIC_ADDRESS", public)];
        let mut bridge = Bridge::start("unused", &["--config", file.path()], &variables);
        bridge.health().await;
        let complaints = bridge.complaints_to_the_end();
        let named: Vec<_> = complaints.iter().filter(|line| line.contains("bridge.public-addresses: ")).collect();
        assert_eq!(named.len(), 1, "{complaints:#?}");
        assert!(named[0].contains(public) && named[0].contains(reason), "{named:#?}");
    }
}

#[test]
fn a_media_port_that_is_taken_is_named() {
    // By a program that does not share it.
    let taken = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = taken.local_addr().expect("bound").port();
    let file = File::new("taken", &jvb_conf(free_port(), port, PASSWORD, loopback()));
    let output = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .args(["bridge", "--config", file.path(), "--local-address", "127.0.0.1"])
        .env_clear()
        .output()
        .expect("runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    let errors: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    let named = format!("UDP port {port} of 127.0.0.1 is taken by another process");
    assert!(errors[0].contains(&named) && errors[0].contains("--port"), "{log}");
}

#[test]
fn the_unit_restarts_no_faster_than_every_five_seconds_and_never_for_a_mistake() {
    let unit = include_str!("../../packaging/ringbridge.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    assert_eq!(value("RestartSec"), Some("5"));
    assert_eq!((value("Restart"), value("RestartPreventExitStatus")), (Some("on-failure"), Some("2")));
    let file = File::new("mistake", "videobridge { ice { udp { prot = 10000 } } }");
    let output = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .args(["bridge", "--config", file.path()])
        .env_clear()
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
