//! Upgrades between real processes: this test's program is started again as the new one, and for some as the old one, too.
//!
//! In the place of media each process that may send writes its id to one UDP socket, which is handed over.

use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::envelope::{PartName, StateParts};
use super::hand_over::{Calls, Load, hand_over};
use super::message::Hello;
use super::predecessor::{Failure, Limits, Outcome, Predecessor, Step};
use super::program::Program;
use super::take_over::{Heir, take_over};
use super::wire::inherited;

/// What the new process does: the word of its behaviour.
const BEHAVIOUR: &str = "TEST_UPGRADE_BEHAVIOUR";
/// Where the old process of [`old_process`] stops for good.
const HANGS_AT: &str = "TEST_UPGRADE_HANGS_AT";
/// How long a new process sends.
const SENDS: Duration = Duration::from_millis(200);
const SECRET: &[u8] = b"keys of every call";

fn limits() -> Limits {
    Limits { prepare: Duration::from_secs(60), freeze: Duration::from_secs(20), ..Limits::default() }
}

/// Writes this process' id to the socket's other end, from a thread of its own, while it may.
struct Media {
    socket: UdpSocket,
    flows: Arc<AtomicBool>,
}

impl Media {
    fn new(socket: UdpSocket, flows: bool) -> Self {
        let media = Self { socket, flows: Arc::new(AtomicBool::new(flows)) };
        let (socket, flows) = (media.socket.try_clone().expect("a descriptor"), Arc::clone(&media.flows));
        std::thread::spawn(move || {
            loop {
                if flows.load(Ordering::SeqCst) {
                    let _ = socket.send(&std::process::id().to_le_bytes());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        media
    }

    fn write(&self) {
        // Whoever reads may have been killed.
        let _ = self.socket.send(&std::process::id().to_le_bytes());
    }
}

struct Old {
    media: Media,
    hangs_at: Option<String>,
    retired: Option<u32>,
}

impl Old {
    async fn hang_at(&self, step: &str) {
        if self.hangs_at.as_deref() == Some(step) {
            println!("at {step}");
            std::future::pending::<()>().await;
        }
    }
}

impl Calls for Old {
    async fn quiesce(&mut self) -> Result<(), String> {
        self.media.write();
        self.hang_at("quiescence").await;
        Ok(())
    }

    async fn freeze(&mut self) -> Result<Load, String> {
        self.media.flows.store(false, Ordering::SeqCst);
        // A datagram may be on its way out.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.hang_at("freeze").await;
        let mut parts = StateParts::default();
        parts.insert(PartName::Control, 0, Zeroizing::new(SECRET.to_vec()));
        let socket = self.media.socket.try_clone().map_err(|error| error.to_string())?;
        Ok(Load { parts, descriptors: vec![socket.into()] })
    }

    async fn resume(&mut self) {
        self.media.flows.store(true, Ordering::SeqCst);
    }

    async fn retire(&mut self, successor: u32) {
        self.hang_at("commit").await;
        self.retired = Some(successor);
    }
}

struct New {
    behaviour: String,
    media: Option<Media>,
}

impl New {
    fn at(&self, step: &str) -> Result<(), String> {
        match self.behaviour.split_once('@') {
            Some(("die", at)) if at == step => std::process::abort(),
            Some(("refuse", at)) if at == step => Err(format!("no {step} here")),
            Some(("hang", at)) if at == step => loop {
                std::thread::park();
            },
            _ => Ok(()),
        }
    }
}

impl Heir for New {
    async fn prepare(&mut self) -> Result<(), String> {
        self.at("preparation")
    }

    async fn import(&mut self, mut parts: StateParts, mut descriptors: Vec<OwnedFd>) -> Result<(), String> {
        self.at("import")?;
        let secret = parts.remove(PartName::Control, 0).ok_or("a part is missing")?;
        assert_eq!(secret.as_slice(), SECRET);
        let socket = descriptors.pop().ok_or("a socket is missing")?;
        self.media = Some(Media::new(socket.into(), false));
        Ok(())
    }

    async fn serve(&mut self) {
        let _ = self.at("service");
        if let Some(media) = &self.media {
            media.flows.store(true, Ordering::SeqCst);
            // Not left to a thread that may be late.
            media.write();
        }
    }
}

/// Not a test: the new process.
#[tokio::test]
async fn new_process() {
    let Some(mut wire) = inherited().expect("an end of a socket") else { return };
    let behaviour = std::env::var(BEHAVIOUR).unwrap_or_default();
    let mut new = New { behaviour, media: None };
    let _ = new.at("start");
    let workers = if new.behaviour == "workers" { 9 } else { 1 };
    match take_over(&mut wire, Hello::own(workers), &mut new).await {
        Ok(frozen) => {
            assert!(frozen >= Duration::from_millis(20), "{frozen:?}");
            println!("it serves");
            std::thread::sleep(SENDS);
        }
        Err(why) => println!("it ends: {why}"),
    }
}

/// Not a test: an old process which somebody kills.
#[tokio::test]
async fn old_process() {
    let Ok(hangs_at) = std::env::var(HANGS_AT) else { return };
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut old = Old { media: Media::new(connected(&receiver), true), hangs_at: Some(hangs_at), retired: None };
    let _ = hand_over(&mut Predecessor::new(Hello::own(1), limits()), &this("serve"), &mut old).await;
}

fn connected(receiver: &UdpSocket) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(receiver.local_addr().expect("bound")).expect("loopback");
    socket
}

fn test(name: &str) -> [String; 3] {
    // The crate's name does not belong to it.
    let module = module_path!().split_once("::").map_or("", |(_, module)| module);
    ["--exact".to_owned(), format!("{module}::{name}"), "--nocapture".to_owned()]
}

/// This program as a new process of this behaviour.
fn this(behaviour: &str) -> Program {
    let path = std::env::current_exe().expect("a path");
    Program::new(path, test("new_process").map(Into::into)).with_variable(BEHAVIOUR, behaviour)
}

async fn upgrade(program: &Program, limits: Limits) -> (Outcome, Vec<u32>, Old) {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let mut old = Old { media: Media::new(connected(&receiver), true), hangs_at: None, retired: None };
    let reading = std::thread::spawn(move || {
        let mut senders = Vec::new();
        let (mut bytes, mut last) = ([0; 4], Instant::now());
        // Until it has been quiet, with an old process that goes on for so long.
        while last.elapsed() < Duration::from_secs(30) {
            match receiver.recv(&mut bytes) {
                Ok(4) if bytes == [0; 4] => break,
                Ok(_) => senders.push(u32::from_le_bytes(bytes)),
                Err(_) => continue,
            }
            last = Instant::now();
        }
        senders
    });
    let mut machine = Predecessor::new(Hello::own(1), limits);
    let outcome = hand_over(&mut machine, program, &mut old).await.expect("no other upgrade");
    tokio::time::sleep(Duration::from_millis(100)).await;
    old.media.socket.send(&[0; 4]).expect("loopback");
    (outcome, reading.join().expect("no panic"), old)
}

#[tokio::test]
async fn the_new_process_sends_from_where_the_old_one_stopped() {
    let (outcome, senders, old) = upgrade(&this("serve"), limits()).await;
    assert!(matches!(outcome, Outcome::HandedOver { .. }), "{outcome:?}");
    let (me, new) = (std::process::id(), old.retired.expect("the new process's id"));
    let mut order = senders.clone();
    order.dedup();
    assert_eq!(order, [me, new], "one after the other");
}

#[tokio::test]
async fn programs_that_cannot_take_over_leave_the_old_process_as_it_was() {
    let folder = std::env::temp_dir().join(format!("ringbridge-upgrade-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, bytes: &[u8], mode| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("permissions");
        Program::new(path, [])
    };
    // A program for SPARC (ELF's e_machine 2), in our word length and byte order.
    let mut foreign = [0_u8; 64];
    foreign[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (foreign[16], foreign[18]) = (2, 2);
    let system = |path: &str| Program::new(PathBuf::from(path), []);
    let brief = Limits { prepare: Duration::from_secs(3), ..limits() };
    let frozen_briefly = Limits { freeze: Duration::from_secs(3), ..limits() };
    let died = Failure::Died.label();
    for (name, program, limits, step, label) in [
        ("no such file", system("/nonexistent/ringbridge"), limits(), Step::Start, "not_started"),
        ("not executable", file("text", b"text", 0o644), limits(), Step::Start, "not_started"),
        ("another architecture", file("foreign", &foreign, 0o755), limits(), Step::Start, "not_started"),
        (
            "words that a shell would understand",
            file("words", b"exit 0 # a comment", 0o755),
            limits(),
            Step::Start,
            "not_started",
        ),
        ("an empty file", file("empty", b"", 0o755), limits(), Step::Start, "not_started"),
        ("a short script", file("script", b"#!/bin/sh\n", 0o755), limits(), Step::Start, died),
        ("another program", system("/bin/true"), limits(), Step::Start, died),
        ("a crash at the start", this("die@start"), limits(), Step::Start, died),
        ("a hang at the start", this("hang@start"), brief, Step::Start, "stalled"),
        ("another number of workers", this("workers"), limits(), Step::Start, "unfit"),
        ("rights that it lacks", this("refuse@preparation"), limits(), Step::Preparation, "refused"),
        ("a crash while it prepares", this("die@preparation"), limits(), Step::Preparation, died),
        ("a state that it refuses", this("refuse@import"), limits(), Step::Import, "refused"),
        ("a crash over the state", this("die@import"), limits(), Step::Import, died),
        ("a hang over the state", this("hang@import"), frozen_briefly, Step::Import, "stalled"),
    ] {
        let (outcome, senders, old) = upgrade(&program, limits).await;
        let Outcome::GoesOn { step: at, failure, frozen } = outcome else { panic!("{name}: {outcome:?}") };
        assert_eq!((at, failure.label()), (step, label), "{name}: {failure}");
        assert_eq!(frozen.is_some(), step == Step::Import, "{name}");
        assert!(senders.iter().all(|sender| *sender == std::process::id()) && old.retired.is_none(), "{name}");
        assert!(old.media.flows.load(Ordering::SeqCst), "{name}: media flows again");
    }
    std::fs::remove_dir_all(folder).expect("removed");
}

#[tokio::test]
async fn a_new_process_that_dies_after_the_commit_is_a_crash() {
    let (outcome, senders, old) = upgrade(&this("die@service"), limits()).await;
    assert_eq!(outcome, Outcome::Lost(Failure::Died));
    assert!(senders.iter().all(|sender| *sender == std::process::id()) && old.retired.is_some());
    assert!(!old.media.flows.load(Ordering::SeqCst), "the old one does not come back");
}

/// `kill -9` of the old process: before the commit the new one ends, too; after it, it serves.
#[test]
fn an_old_process_that_is_killed_leaves_nobody_behind() {
    for (step, serves) in [("quiescence", false), ("freeze", false), ("commit", true)] {
        let mut old = Command::new(std::env::current_exe().expect("a path"))
            .args(test("old_process"))
            .env(HANGS_AT, step)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut output = old.stdout.take().expect("piped");
        let (mut text, mut byte) = (String::new(), [0]);
        while !text.contains(&format!("at {step}")) {
            assert_eq!(output.read(&mut byte).expect("a pipe"), 1, "{step}: it ended: {text}");
            text.push(char::from(byte[0]));
        }
        old.kill().expect("killed");
        old.wait().expect("ended");
        // At its end when both processes are, as both have it open.
        output.read_to_string(&mut text).expect("a pipe");
        let words = if serves { "it serves" } else { "it ends: the running process" };
        assert!(text.contains(words), "{step}: {text}");
    }
}
