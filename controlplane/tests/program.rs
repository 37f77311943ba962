//! The program as an operator sees it: it starts without an XMPP server, says so, and ends when told to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Ports that were free a moment ago: bridge channel, bridge pages, focus pages, XMPP (where nobody listens), media.
struct Ports([u16; 5]);

impl Ports {
    fn find() -> Self {
        let tcp: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback")).collect();
        let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        Self([port(&tcp[0]), port(&tcp[1]), port(&tcp[2]), port(&tcp[3]), udp.local_addr().expect("bound").port()])
    }

    fn start(&self) -> Child {
        let Self([channel, bridge, focus, xmpp, media]) = self;
        Command::new(env!("CARGO_BIN_EXE_ringbridge"))
            .args(["all", "--xmpp-host", "127.0.0.1", "--xmpp-port", &xmpp.to_string(), "--xmpp-security", "disabled"])
            .args(["--brewery", "brewery@internal.test", "--bridge-jid", "jvb@test", "--focus-jid", "focus@test"])
            .args([
                "--conference-muc",
                "conference.test",
                "--local-address",
                "127.0.0.1",
                "--workers",
                "1",
                "--io",
                "mmsg",
            ])
            .args(["--port", &media.to_string(), "--websocket-listen", &format!("127.0.0.1:{channel}")])
            .args(["--rest-listen", &format!("127.0.0.1:{bridge}")])
            .args(["--focus-rest-listen", &format!("127.0.0.1:{focus}")])
            .env_clear()
            .envs([("RINGBRIDGE_BRIDGE_PASSWORD", "x"), ("RINGBRIDGE_FOCUS_PASSWORD", "y")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    }
}

/// Waits until the page answers; its status.
fn health(port: u16) -> String {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let request = "GET /about/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("answered");
            return answer.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nothing answers on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tell(child: &Child, signal: &str) {
    let told = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A child that another test is starting holds this one's listeners until it runs, and their ports are in use that long.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn without_an_xmpp_server_it_is_unhealthy_and_ends_in_order() {
    let _alone = alone();
    for signal in ["-TERM", "-INT"] {
        let ports = Ports::find();
        let child = ports.start();
        assert_eq!((health(ports.0[1]), health(ports.0[2])), ("500".to_owned(), "500".to_owned()));
        tell(&child, signal);
        let output = child.wait_with_output().expect("ends");
        let log = log(&output);
        assert_eq!(output.status.code(), Some(0), "{signal}: {log}");
        assert!(log.contains("check that the XMPP server runs"), "{log}");
        assert!(!log.contains('\u{1b}'), "no colours where no terminal is: {log}");
    }
}

#[test]
fn an_address_in_use_ends_it_and_is_named() {
    let _alone = alone();
    let ports = Ports::find();
    for occupied in [0, 1, 2] {
        let address = format!("127.0.0.1:{}", ports.0[occupied]);
        let _taken = TcpListener::bind(&address).expect("was free");
        let output = ports.start().wait_with_output().expect("ends");
        let log = log(&output);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    }
}

#[test]
fn manual_page_and_completions_are_made_from_the_flags() {
    let _alone = alone();
    let print = |arguments: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_ringbridge")).args(arguments).output().expect("runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let manual = print(&["man"]);
    assert!(manual.contains(".TH ringbridge 1") && manual.contains("advertise\\-private\\-addresses"), "{manual}");
    assert!(manual.contains("\\-\\-interval"), "top has its options there: {manual}");
    for shell in ["bash", "zsh", "fish"] {
        let completions = print(&["completions", shell]);
        assert!(completions.contains("check-config") && completions.contains("top"), "{shell}");
    }
}

#[test]
fn top_without_a_bridge_is_one_line_with_a_remedy() {
    let _alone = alone();
    let ports = Ports::find();
    for flag in ["--once", "--json"] {
        let address = format!("127.0.0.1:{}", ports.0[0]);
        let output =
            Command::new(env!("CARGO_BIN_EXE_ringbridge")).args(["top", &address, flag]).output().expect("runs");
        let log = log(&output);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(&address) && log.contains("refused") && log.contains("bridge.rest.listen"), "{log}");
    }
    // A focus has other pages.
    let child = ports.start();
    assert_eq!(health(ports.0[2]), "500");
    let address = format!("127.0.0.1:{}", ports.0[2]);
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringbridge")).args(["top", &address, "--once"]).output().expect("runs");
    let error = log(&output);
    assert!(error.contains("bridge.rest.listen") && error.lines().count() == 1, "{error}");
    tell(&child, "-TERM");
    assert!(child.wait_with_output().expect("ends").status.success());
}
