//! `packaging/graceful_shutdown.sh`, which side services call: in front of a scripted bridge, and of the program itself.

mod ports;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/graceful_shutdown.sh");

/// The script with these arguments, looking every second or so.
fn script(arguments: &[&str]) -> Output {
    Command::new(SCRIPT).args(arguments).env("RINGBRIDGE_POLL_SECONDS", "0.2").output().expect("runs")
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Answers one connection after the other with these, and then listens no more: what was asked.
fn bridge_that_answers(answers: Vec<(u16, String)>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let serve = move || {
        let answer = |(status, body): (u16, String)| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).into_owned();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
                });
                (body.len() >= length.unwrap_or(0)).then(|| text.clone())
            };
            let asked = loop {
                let read = stream.read(&mut chunk).expect("readable");
                request.extend_from_slice(&chunk[..read]);
                if let Some(text) = whole(&request) {
                    break text;
                }
                assert!(read > 0, "the script closed early");
            };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .expect("writable");
            asked
        };
        answers.into_iter().map(answer).collect()
    };
    (address, std::thread::spawn(serve))
}

/// What `/colibri/stats` says, with other keys of the same endings around.
fn stats(participants: u32, elsewhere: u32, stage: (bool, bool)) -> (u16, String) {
    let text = format!(
        r#"{{"graceful_shutdown":{},"octo_endpoints":{elsewhere},"participants": {participants},"shutting_down":{},"total_participants":99,"version":"2.3,\"participants\":7"}}"#,
        stage.0, stage.1
    );
    (200, text)
}

#[test]
fn it_waits_for_the_last_participant_of_this_bridge_and_for_the_end() {
    let (address, asked) = bridge_that_answers(vec![
        (200, String::new()),
        stats(5, 2, (true, false)),
        (503, "busy".to_owned()),
        stats(1, 0, (true, false)),
        stats(2, 2, (false, true)),
    ]);
    let (code, said, complaint) = texts(&script(&["-h", &format!("http://{address}/"), "-t", "25"]));
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{said}");
    for line in
        ["3 participants are still", "cannot be counted", "1 participants", "have ended", "the bridge has ended"]
    {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    let asked = asked.join().expect("served");
    assert!(asked[0].starts_with("POST /colibri/shutdown HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].ends_with(r#"{"graceful-shutdown": "true"}"#), "{}", asked[0]);
    assert!(asked[0].contains("application/json"), "{}", asked[0]);
    assert!(asked[1..].iter().all(|text| text.starts_with("GET /colibri/stats HTTP/1.1\r\n")), "{asked:?}");
}

#[test]
fn another_bridge_in_its_place_ends_the_wait() {
    let (address, _asked) =
        bridge_that_answers(vec![(200, String::new()), stats(4, 0, (true, false)), stats(9, 0, (false, false))]);
    let (code, said, _) = texts(&script(&["-h", &format!("http://{address}")]));
    assert!(code == Some(0) && said.contains("another bridge has taken its place"), "{said}");
}

#[test]
fn a_named_process_is_waited_for_and_silence_is_silent() {
    let mut process = Command::new("sleep").arg("2").spawn().expect("runs");
    let (address, _asked) = bridge_that_answers(vec![(200, String::new())]);
    let (pid, url) = (process.id().to_string(), format!("http://{address}"));
    // It is gone from /proc only once somebody has waited for it.
    let reaped = std::thread::spawn(move || process.wait());
    let start = Instant::now();
    let (code, said, complaint) = texts(&script(&["-s", "-p", &pid, "-h", &url]));
    assert_eq!((code, said.as_str(), complaint.as_str()), (Some(0), "", ""));
    assert!(start.elapsed() >= Duration::from_secs(1), "it did not wait for the process");
    reaped.join().expect("no panic").expect("waited");
}

#[test]
fn what_is_refused_is_said_with_its_remedy() {
    let free = ports::loopback();
    for (status, remedy) in [(404, "bridge.shutdown.over-rest = true"), (403, "unexpected answer 403")] {
        let (address, _asked) = bridge_that_answers(vec![(status, String::new())]);
        let (code, said, complaint) = texts(&script(&["-h", &format!("http://{address}")]));
        assert!(code == Some(1) && said.is_empty() && complaint.contains(remedy), "{said}{complaint}");
    }
    for (arguments, remedy) in [
        (vec!["-h".to_owned(), format!("http://{free}")], "no answer"),
        (vec!["-x".to_owned()], "usage: "),
        (vec!["-p".to_owned(), "jvb".to_owned()], "-p jvb"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, _, complaint) = texts(&script(&arguments));
        assert!(code == Some(1) && complaint.contains(remedy), "{complaint}");
    }
}

#[test]
fn the_program_itself_ends_in_order() {
    let rest = ports::loopback().to_string();
    let mut bridge = Command::new(env!("CARGO_BIN_EXE_ringbridge"))
        .args([
            "bridge",
            "--bridge-jid",
            "jvb@auth.meet.test",
            "--bridge-password",
            "x",
            "--local-address",
            "127.0.0.1",
        ])
        .args(["--brewery", "jvbbrewery@internal.auth.meet.test", "--workers", "1", "--rest-listen", &rest])
        .args(["--xmpp-port", &ports::free_port().to_string(), "--port", &ports::free_port().to_string()])
        .args(["--websocket-listen", &ports::loopback().to_string(), "--shutdown-over-rest", "--shutdown-delay", "1s"])
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let start = Instant::now();
    while std::net::TcpStream::connect(&rest).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", bridge.try_wait());
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = bridge.id().to_string();
    let waiting = std::thread::spawn(move || bridge.wait());
    let (code, said, complaint) = texts(&script(&["-p", &pid, "-h", &format!("http://{rest}")]));
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("its conferences have ended") && said.contains("the bridge has ended"), "{said}");
    let ended = waiting.join().expect("no panic").expect("waited");
    assert_eq!(ended.code(), Some(0));
}
