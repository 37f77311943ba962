//! The program as an operator sees it: it starts without an XMPP server, says so, and ends on a signal.

mod ports;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Ports that were free a moment ago: bridge channel, bridge pages, focus pages, XMPP (where nobody listens), media.
struct Ports([u16; 5]);

impl Ports {
    fn find() -> Self {
        Self(std::array::from_fn(|_| ports::free_port()))
    }

    fn start(&self) -> Child {
        self.command().stderr(Stdio::piped()).spawn().expect("starts")
    }

    fn command(&self) -> Command {
        self.command_of(Command::new(env!("CARGO_BIN_EXE_ringbridge")))
    }

    /// The same behind a shell's limits and redirections.
    fn behind(&self, limits: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{limits} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_ringbridge")]);
        self.command_of(shell)
    }

    fn command_of(&self, mut command: Command) -> Command {
        let Self([channel, bridge, focus, xmpp, media]) = self;
        command
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
            .envs([("RINGBRIDGE_BRIDGE_PASSWORD", "x"), ("RINGBRIDGE_FOCUS_PASSWORD", "y")]);
        command
    }
}

/// Waits until the page answers; its status.
fn health(port: u16) -> String {
    page(port, "/about/health").split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Waits until the page answers; all of it.
fn page(port: u16, path: &str) -> String {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("answered");
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nothing answers on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tell(child: &Child, signal: &str) {
    let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
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

/// Without an XMPP server no session can be kept, neither the bridge's nor the focus': the operator learns why, and nothing changes.
#[test]
fn without_an_xmpp_server_an_upgrade_is_refused() {
    let _alone = alone();
    let ports = Ports::find();
    let child = ports.start();
    health(ports.0[1]);
    let address = format!("127.0.0.1:{}", ports.0[1]);
    for (arguments, code) in [(&["--check"][..], 3), (&[], 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringbridge"));
        let output = command.args(["upgrade", &address]).args(arguments).env_clear().output().expect("runs");
        let says = log(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {says}");
        assert!(says.contains("would not keep the session of") && says.contains("the focus"), "{says}");
    }
    assert!(page(ports.0[1], "/colibri/upgrade").contains(&format!("\"pid\":{}", child.id())), "it goes on");
    // Nobody listens there.
    let nowhere = Command::new(env!("CARGO_BIN_EXE_ringbridge")).args(["upgrade", "127.0.0.1:9"]).env_clear().output();
    let nowhere = nowhere.expect("runs");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(log(&nowhere).contains("does the bridge run"), "{}", log(&nowhere));
    tell(&child, "-TERM");
    assert_eq!(child.wait_with_output().expect("ends").status.code(), Some(0));
}

/// A focus without a bridge is not handed over: its operator learns what to do instead, before anybody is asked.
#[test]
fn a_focus_alone_is_restarted_instead_of_upgraded() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let both = folder.join(format!("both-{}.conf", std::process::id()));
    let focus = folder.join(format!("focus-{}.conf", std::process::id()));
    let of_focus = "focus { jid = \"focus@auth.meet.test\", password = x }";
    std::fs::write(&focus, of_focus).expect("written");
    std::fs::write(&both, format!("bridge {{ password = x, rest.listen = \"127.0.0.1:9\" }}\n{of_focus}"))
        .expect("written");
    let ask = |config: &std::path::Path, parts: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringbridge"));
        command.arg("upgrade").args(arguments).arg("--config").arg(config).env_clear();
        let output = command.envs(parts.map(|parts| ("RINGBRIDGE_PARTS", parts))).output().expect("runs");
        (output.status.code(), log(&output))
    };
    for (config, parts) in [(&focus, None), (&both, Some("focus"))] {
        for (arguments, code) in [(&["--check"][..], 3), (&[], 1)] {
            let (ended, says) = ask(config, parts, arguments);
            assert_eq!(ended, Some(code), "{parts:?} {arguments:?}: {says}");
            assert!(says.contains("restart it instead") && says.contains("focus.state-directory"), "{says}");
        }
    }
    for parts in [None, Some("all"), Some("bridge")] {
        let (ended, says) = ask(&both, parts, &[]);
        assert!(ended == Some(1) && says.contains("does the bridge run"), "{parts:?}: {says}");
    }
    let _ = (std::fs::remove_file(focus), std::fs::remove_file(both));
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

/// Log lines lost so far for one reason.
fn lost(port: u16, reason: &str) -> u64 {
    let metrics = page(port, "/metrics");
    let row = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&format!("ringbridge_log_lines_lost{{reason=\"{reason}\"}} ")));
    row.expect("a row").parse().expect("a number")
}

/// Ends with the test, whatever becomes of that.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves, and ends in order; what became of its log is for the caller to look at.
fn serves_and_ends(mut child: Guard, ports: &Ports) {
    for page in [1, 2] {
        let start = Instant::now();
        assert_eq!(health(ports.0[page]), "500", "page {page}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    tell(&child.0, "-TERM");
    let start = Instant::now();
    let ended = loop {
        if let Some(ended) = child.0.try_wait().expect("a child") {
            break ended;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

fn full() -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let _alone = alone();
    let ports = Ports::find();
    let child = Guard(ports.command().stdout(full()).stderr(full()).spawn().expect("starts"));
    health(ports.0[1]);
    assert!(lost(ports.0[1], "no_space") > 0);
    serves_and_ends(child, &ports);

    // Nobody reads any more.
    let ports = Ports::find();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = Guard(ports.command().stderr(writer).spawn().expect("starts"));
    health(ports.0[1]);
    assert!(lost(ports.0[1], "closed") > 0);
    serves_and_ends(child, &ports);

    // Neither was ever open.
    let ports = Ports::find();
    let child = Guard(ports.behind("exec 0<&- 1>&- 2>&-;").spawn().expect("starts"));
    serves_and_ends(child, &ports);
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let _alone = alone();
    let ports = Ports::find();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let child = Guard(ports.command().env("RUST_LOG", "trace").stderr(writer).spawn().expect("starts"));
    health(ports.0[1]);
    let start = Instant::now();
    while lost(ports.0[1], "queue_full") == 0 {
        assert!(start.elapsed() < Duration::from_secs(120), "a megabyte of lines was not enough");
        // Each leaves two lines.
        for _ in 0..500 {
            let _ = TcpStream::connect(("127.0.0.1", ports.0[0]));
        }
    }
    let asked = Instant::now();
    assert_eq!(health(ports.0[1]), "500");
    assert!(asked.elapsed() < Duration::from_secs(1));
    serves_and_ends(child, &ports);
    drop(reader);
}

#[test]
fn a_limit_of_the_files_size_ends_nothing() {
    let _alone = alone();
    let ports = Ports::find();
    let file = std::env::temp_dir().join(format!("ringbridge-log-{}", std::process::id()));
    // Blocks of 512 bytes.
    let child = Guard(ports.behind(&format!("ulimit -f 1; exec 2>{};", file.display())).spawn().expect("starts"));
    health(ports.0[1]);
    let start = Instant::now();
    while lost(ports.0[1], "no_space") == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing was lost");
        std::thread::sleep(Duration::from_millis(50));
    }
    serves_and_ends(child, &ports);
    let written = std::fs::metadata(&file).expect("a log").len();
    let _ = std::fs::remove_file(&file);
    assert!(written <= 1024, "{written}");
}

#[test]
fn nothing_panics_for_want_of_somebody_who_reads() {
    let _alone = alone();
    let bad_file = ["check-config", "--config", "/nowhere"];
    let minimal = [
        "check-config",
        "--bridge-jid",
        "jvb@x",
        "--bridge-password",
        "x",
        "--brewery",
        "b@x",
        "--focus-jid",
        "focus@x",
        "--focus-password",
        "x",
        "--conference-muc",
        "c.x",
        "--websocket-base-url",
        "ws://x",
    ];
    let cases: [&[&str]; 8] = [
        &["man"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
        &["top", "127.0.0.1:1", "--once"],
        &["bridge", "--no-such-flag"],
        &bad_file,
        &minimal,
    ];
    for arguments in cases {
        for unreadable in ["full", "closed"] {
            let stdio = || match unreadable {
                "full" => Stdio::from(full()),
                _ => Stdio::from(std::io::pipe().expect("a pipe").1),
            };
            let mut command = Command::new(env!("CARGO_BIN_EXE_ringbridge"));
            let status = command.args(arguments).stdout(stdio()).stderr(stdio()).status().expect("runs");
            assert!(matches!(status.code(), Some(0..=2)), "{arguments:?} {unreadable}: {status:?}");
        }
    }
    // With a good standard error a failure is printed there.
    let output = Command::new(env!("CARGO_BIN_EXE_ringbridge")).arg("man").stdout(full()).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(log(&output).contains("cannot print"), "{}", log(&output));
}

#[test]
fn health_is_answered_when_there_are_no_descriptors_left() {
    let _alone = alone();
    let ports = Ports::find();
    let child = Guard(ports.behind("ulimit -n 64;").stderr(Stdio::null()).spawn().expect("starts"));
    health(ports.0[1]);
    let mut held = Vec::new();
    for n in 0..600 {
        // The channel's door and the pages' own.
        let port = ports.0[if n % 3 == 2 { 1 } else { 0 }];
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.write_all(b"GET /about/health HTTP/1.1\r\nHost: loc");
            held.push(stream);
        }
        if n % 100 == 99 {
            for page in [1, 2] {
                let asked = Instant::now();
                assert_eq!(health(ports.0[page]), "500");
                assert!(asked.elapsed() < Duration::from_secs(1), "{:?} after {n}", asked.elapsed());
            }
        }
    }
    assert!(held.len() > 500);
    serves_and_ends(child, &ports);
}

#[test]
fn a_process_that_was_stopped_goes_on() {
    let _alone = alone();
    let ports = Ports::find();
    let child = Guard(ports.command().stderr(Stdio::null()).spawn().expect("starts"));
    health(ports.0[1]);
    // A request that waits meanwhile.
    let mut waiting = TcpStream::connect(("127.0.0.1", ports.0[1])).expect("listens");
    tell(&child.0, "-STOP");
    waiting.write_all(b"GET /about/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_secs(1));
    tell(&child.0, "-CONT");
    let (mut answer, asked) = (String::new(), Instant::now());
    waiting.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200") && asked.elapsed() < Duration::from_secs(1), "{answer}");
    serves_and_ends(child, &ports);
}
