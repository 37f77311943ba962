//! A bridge as a process of its own, in the middle of a call: another one takes its place, or cannot. A real Prosody, sockets, media
//! that each participant decrypts, and a Jicofo that sees who is in the room.

mod relay_channel;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use futures::StreamExt;
use ringbridge_controlplane::upgrade::{Hello, Message, inherited};
use xmpp_parsers::presence::Type;

use super::*;

mod steps;

/// Between two packets of a source.
const PACE: Duration = Duration::from_millis(20);
/// A processor that five others share gives the processes this much less.
const LONGEST_FREEZE: Duration = Duration::from_millis(500);

/// A bridge as an operator runs it, under a name in a folder of its own: what is behind the name is what an upgrade starts.
struct Service {
    folder: PathBuf,
    log: ProgramLog,
    child: Child,
    rest: SocketAddr,
    websocket: SocketAddr,
    /// All processes that were this bridge; each is ended by its id.
    pids: Vec<u64>,
}

impl Service {
    async fn start(server: &Prosody, name: &str, more: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("upgrade-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        symlink(env!("CARGO_BIN_EXE_ringbridge"), folder.join("ringbridge")).expect("a link");
        let (rest, websocket, media) = (prosody::loopback(), prosody::loopback(), prosody::free_port());
        let service = Self::configure(&folder, "mmsg", more);
        let log = ProgramLog(folder.join("log"));
        let child = Command::new(folder.join("ringbridge"))
            .args(["bridge", "--config", service.to_str().expect("UTF-8")])
            .args(["--xmpp-host", "127.0.0.1", "--xmpp-port", &server.port.to_string(), "--xmpp-security", "disabled"])
            .args(["--brewery", prosody::BREWERY, "--bridge-jid", "jvb@auth.meet.test", "--nickname", BRIDGES[0]])
            .args(["--local-address", "127.0.0.1", "--port", &media.to_string()])
            .args(["--rest-listen", &rest.to_string(), "--websocket-listen", &websocket.to_string()])
            .args(["--websocket-url", "ws://meet.test"])
            .env_clear()
            .env("RINGBRIDGE_BRIDGE_PASSWORD", prosody::PASSWORD)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log.0).expect("a log"))
            .spawn()
            .expect("starts");
        let pids = vec![child.id().into()];
        let service = Self { folder, log, child, rest, websocket, pids };
        let end = Instant::now() + WAIT;
        while tokio::net::TcpStream::connect(rest).await.is_err()
            || !http::get(rest, "/about/health").await.starts_with("HTTP/1.1 200")
        {
            assert!(Instant::now() < end, "not healthy: {}", service.log.read());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        service
    }

    /// The file that each of its processes reads when it starts.
    fn configure(folder: &Path, io: &str, more: &str) -> PathBuf {
        let path = folder.join("ringbridge.conf");
        std::fs::write(&path, format!("bridge {{ io = {io}, workers = 2 }}\n{more}\n")).expect("written");
        path
    }

    /// Puts something else behind the program's name.
    fn install(&self, script: Option<&str>) {
        let path = self.folder.join("ringbridge");
        std::fs::remove_file(&path).expect("was there");
        match script {
            None => symlink(env!("CARGO_BIN_EXE_ringbridge"), path).expect("a link"),
            Some(script) => self.install_file(script.as_bytes(), 0o755),
        }
    }

    /// The same with any bytes, and permissions.
    fn install_file(&self, bytes: &[u8], mode: u32) {
        let path = self.folder.join("ringbridge");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("permissions");
    }

    /// Resident bytes of its process.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("ours");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a number of kB");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }

    async fn page(&self, path: &str) -> Value {
        let answer = http::get(self.rest, path).await;
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
    }

    /// A sample at `/metrics`.
    async fn metric(&self, sample: &str) -> f64 {
        let metrics = http::get(self.rest, "/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {sample} in {metrics}"))
    }

    /// `ringbridge upgrade` with these arguments: its exit code, and all it says.
    async fn upgrade(&mut self, arguments: &[&str]) -> (Option<i32>, String) {
        let said = self.ask(arguments).await;
        let pid = self.page("/colibri/upgrade").await["pid"].as_u64().expect("a number");
        if self.pids.last() != Some(&pid) {
            self.pids.push(pid);
        }
        said
    }

    /// The same, of which nothing may be left that says which process it is now.
    fn ask(&self, arguments: &[&str]) -> impl Future<Output = (Option<i32>, String)> + use<> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringbridge"));
        command.arg("upgrade").arg(self.rest.to_string()).args(arguments).env_clear();
        let asked = tokio::task::spawn_blocking(move || command.output());
        async move {
            let Output { status, stdout, stderr } = asked.await.expect("no panic").expect("runs");
            let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
            (status.code(), text.into_owned())
        }
    }

    fn pid(&self) -> u64 {
        *self.pids.last().expect("at least one")
    }

    /// Descriptors and children of its process; those of questions about it come and go.
    async fn held(&self, wanted: Option<(usize, usize)>) -> (usize, usize) {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let process = PathBuf::from(format!("/proc/{}", self.pid()));
            let descriptors = std::fs::read_dir(process.join("fd")).expect("ours").count();
            let tasks = std::fs::read_dir(process.join("task")).expect("ours").flatten();
            let of =
                |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = tasks.map(|task| of(task).split_whitespace().count()).sum();
            if wanted.is_none_or(|wanted| wanted == (descriptors, children)) || Instant::now() > end {
                return (descriptors, children);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.pids.len() > 1 {
            let _ = Command::new("kill").args(["-KILL", &self.pid().to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Two participants of one conference on the bridge, who talk on a thread of their own until they are asked what they heard.
struct Call {
    stop: Arc<AtomicBool>,
    talking: Option<JoinHandle<[Phone; 2]>>,
    phones: Option<[Phone; 2]>,
    fingerprint: String,
    websocket: String,
}

impl Call {
    async fn begin(jicofo: &mut Jicofo) -> Self {
        let (mut phones, mut fingerprint, mut websocket) = (Vec::new(), String::new(), String::new());
        for index in 0..2 {
            let endpoint = Endpoint { media: media(NUMBERS[index]), ..jicofo::create(NAMES[index]) };
            let request =
                ConferenceModify { create: index == 0, endpoints: vec![endpoint], ..ConferenceModify::new(MEETING) };
            let reply = ask(jicofo, 0, request).await;
            let offered = ice(&reply.endpoints[0].transport);
            fingerprint = offered.fingerprints[0].value.clone();
            let (_, path) = offered.web_sockets[0].address().split_once("meet.test").expect("an address");
            websocket = path.to_owned();
            let phone = Phone::new(NAMES[index], &offered);
            let endpoint = Endpoint {
                transport: Some(Transport { ice: Some(phone.transport()), ..Transport::default() }),
                sources: Some(sources(index)),
                ..Endpoint::new(NAMES[index])
            };
            ask(jicofo, 0, ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(MEETING) }).await;
            phones.push(phone);
        }
        let mut phones: [Phone; 2] = phones.try_into().unwrap_or_else(|_| panic!("two"));
        assert!(talk(&mut phones, all_heard).await, "{:?}\n{:?}", phones[0].heard, phones[1].heard);
        let stop = Arc::new(AtomicBool::new(false));
        Self { stop, talking: None, phones: Some(phones), fingerprint, websocket }
    }

    /// They talk.
    fn talk(&mut self) {
        let mut phones = self.phones.take().expect("they are silent");
        for phone in &mut phones {
            phone.turn();
            phone.received.clear();
        }
        self.stop.store(false, Ordering::Relaxed);
        let stop = Arc::clone(&self.stop);
        self.talking = Some(std::thread::spawn(move || {
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if Instant::now() >= due {
                    due = Instant::now() + PACE;
                    for (index, phone) in phones.iter_mut().enumerate() {
                        let ([opus, vp8, _], [audio, video]) = (NUMBERS[index], SSRCS[index]);
                        phone.say(opus, audio, &[], &format!("{}-say", NAMES[index]));
                        phone.say(vp8, video, &KEY_FRAME, &format!("{}show", NAMES[index]));
                    }
                }
                phones.iter_mut().for_each(Phone::turn);
                std::thread::sleep(Duration::from_millis(2));
            }
            // What is on its way.
            for _ in 0..50 {
                phones.iter_mut().for_each(Phone::turn);
                std::thread::sleep(Duration::from_millis(2));
            }
            phones
        }));
    }

    /// They fall silent: what each missed of the other one's audio, and for how long it heard nothing at most. A packet that was
    /// protected with an index that had been used before, or with other keys, would have ended the test.
    fn hush(&mut self) -> Vec<(u64, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        let phones = self.talking.take().expect("they talk").join().expect("everything was decrypted");
        let heard = (0..2).map(|receiver| {
            let received = phones[receiver].received.get(&SSRCS[1 - receiver][0]).expect("audio of the other one");
            assert!(received.count > 10 && received.at.elapsed() < Duration::from_millis(500), "{received:?}");
            (received.missing(), received.longest)
        });
        let heard = heard.collect();
        self.phones = Some(phones);
        heard
    }
}

impl Call {
    /// The bridge is dead: they are cut off in the middle of a sentence. All that they had heard was decrypted.
    fn cut(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.talking.take().expect("they talk").join().expect("everything was decrypted");
    }
}

fn nobody_left(jicofo: &Jicofo) {
    let left = jicofo.presences.iter().find(|presence| presence.type_ == Type::Unavailable);
    assert_eq!(left, None, "the bridge left its room");
}

/// The focus finds the conference as it left it, and sees the bridge in its room.
async fn all_is_as_it_was(jicofo: &mut Jicofo, call: &Call) {
    let request = ConferenceModify { endpoints: vec![jicofo::create("carl")], ..ConferenceModify::new(MEETING) };
    let reply = ask(jicofo, 0, request).await;
    assert_eq!(ice(&reply.endpoints[0].transport).fingerprints[0].value, call.fingerprint, "one certificate");
    let end = ConferenceModify {
        endpoints: vec![Endpoint { expire: true, ..Endpoint::new("carl") }],
        ..ConferenceModify::new(MEETING)
    };
    ask(jicofo, 0, end).await;
    nobody_left(jicofo);
}

/// A bridge with this configuration more, and a call that talks; none without a Prosody. The server is its own: what it keeps of a bridge
/// that died is no other's.
async fn begin(name: &str, more: &str) -> Option<(Service, Call, Jicofo, Prosody)> {
    let server = Prosody::start()?;
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let service = Service::start(&server, name, more).await;
    while jicofo.stat("healthy").await != "true" {}
    let mut call = Call::begin(&mut jicofo).await;
    call.talk();
    Some((service, call, jicofo, server))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_through_upgrades_of_the_running_process() {
    let Some(server) = Prosody::start() else { return };
    let mut jicofo = Jicofo::new(&server);
    jicofo.join().await;
    let mut service = Service::start(&server, "call", "").await;
    while jicofo.stat("healthy").await != "true" {}
    let mut call = Call::begin(&mut jicofo).await;
    let (code, text) = service.upgrade(&["--check"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 conferences, 2 endpoints: all calls would be handed over"), "{text}");
    for (turn, io) in ["auto", "mmsg", "auto"].into_iter().enumerate() {
        let before = service.pid();
        let websocket = format!("ws://{}{}", service.websocket, call.websocket);
        let (mut channel, _) = tokio_tungstenite::connect_async(&websocket).await.expect("the bridge channel");
        Service::configure(&service.folder, io, "");
        call.talk();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (code, text) = service.upgrade(&[]).await;
        assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
        assert!(text.contains("has taken over from") && text.contains("1 conferences, 2 endpoints"), "{text}");
        assert_ne!(service.pid(), before, "{text}");
        // The client's socket ends, and it opens the same address again.
        timeout(WAIT, async { while channel.next().await.is_some_and(|message| message.is_ok()) {} })
            .await
            .expect("an end");
        let (mut channel, _) = tokio_tungstenite::connect_async(&websocket).await.expect("it is opened again");
        let hello = timeout(WAIT, channel.next()).await.expect("in time").expect("something").expect("a message");
        assert!(hello.to_text().expect("text").contains("ServerHello"), "{hello}");
        all_is_as_it_was(&mut jicofo, &call).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let heard = call.hush();
        eprintln!("upgrade {turn} to {io}: {text}{heard:?}");
        assert!(heard.iter().all(|(missing, _)| *missing <= 3), "{heard:?}\n{}", service.log.read());
        assert!(heard.iter().all(|(_, longest)| *longest < LONGEST_FREEZE), "{heard:?}\n{}", service.log.read());
        // The former process is gone; the first one is our child.
        let gone = Instant::now() + WAIT;
        if turn == 0 {
            while service.child.try_wait().expect("a child").is_none_or(|status| !status.success()) {
                assert!(Instant::now() < gone, "it has not ended: {}", service.log.read());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while std::fs::read_to_string(format!("/proc/{before}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < gone, "process {before} has not ended: {}", service.log.read());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(service.metric("ringbridge_upgrades{outcome=\"handed_over\"}").await, turn as f64 + 1.0);
        assert!(service.metric("ringbridge_upgrade_frozen_seconds").await > 0.0);
    }
    let stats = service.page("/colibri/stats").await;
    assert_eq!((&stats["conferences"], &stats["local_endpoints"]), (&1.into(), &2.into()), "{stats}");
    // The last process ends as any other: it says goodbye.
    let _ = Command::new("kill").args(["-TERM", &service.pid().to_string()]).status();
    while jicofo.bridge_presence().await.type_ != Type::Unavailable {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_cannot_take_over_change_nothing() {
    let Some((mut service, mut call, mut jicofo, _server)) = begin("failures", "").await else { return };
    let real = env!("CARGO_BIN_EXE_ringbridge");
    let impostor = std::env::current_exe().expect("a path");
    let impostor = format!("#!/bin/sh\nexec '{}' --exact upgrades::impostor --nocapture\n", impostor.display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let taken = taken.local_addr().expect("bound");
    let other_workers = format!("#!/bin/sh\nexec '{real}' \"$@\" --workers 1\n");
    let door_in_use = format!(
        "#!/bin/sh\nfor a; do shift; [ \"$a\" = '{}' ] && a='{taken}'; set -- \"$@\" \"$a\"; done\nexec '{real}' \"$@\"\n",
        service.websocket
    );
    let as_focus_too = format!(
        "#!/bin/sh\nshift\nRINGBRIDGE_FOCUS_PASSWORD=x exec '{real}' all --focus-jid focus@auth.meet.test --conference-muc conference.meet.test \"$@\"\n"
    );
    let held = service.held(None).await;
    for (script, outcome, says) in [
        ("#!/bin/sh\nexit 3\n", "died", "ended; its own log says why"),
        ("#!/bin/sh\nexec sleep 60\n", "stalled", "not ready after 10 s"),
        ("no program", "not_started", "cannot be started"),
        (&impostor, "unfit", "its state has version"),
        (&other_workers, "unfit", "configured for 1 media workers and this one runs 2"),
        (&door_in_use, "refused", "for the colibri WebSocket"),
        (&as_focus_too, "refused", "configured to be the focus as well"),
    ] {
        service.install(Some(script));
        let (code, text) = service.upgrade(&[]).await;
        assert_eq!(code, Some(1), "{says}: {text}\n{}", service.log.read());
        assert!(text.contains("goes on as before") && text.contains(says), "{says}: {text}");
        assert_eq!(service.pids.len(), 1, "{says}: it is the same process");
        assert!(service.metric(&format!("ringbridge_upgrades{{outcome=\"{outcome}\"}}")).await >= 1.0);
        assert_eq!(service.held(Some(held)).await, held, "{says}: descriptors and children");
    }
    // A program for SPARC (ELF's e_machine 2), in our word length and byte order; and a script that nobody may execute.
    let mut foreign = [0_u8; 64];
    foreign[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (foreign[16], foreign[18]) = (2, 2);
    for (name, program, mode, says) in [
        ("another architecture", &foreign[..], 0o755, "Exec format error"),
        ("no rights", b"#!/bin/sh\n", 0o644, "Permission denied"),
    ] {
        service.install_file(program, mode);
        let (code, text) = service.upgrade(&[]).await;
        assert_eq!(code, Some(1), "{name}: {text}\n{}", service.log.read());
        assert!(text.contains("goes on as before") && text.contains(says), "{name}: {text}");
        assert_eq!(service.held(Some(held)).await, held, "{name}: descriptors and children");
    }
    // A configuration that cannot be used.
    service.install(None);
    Service::configure(&service.folder, "mmsg", "bridge { prot = 7 }");
    let (code, text) = service.upgrade(&[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refuses: its configuration cannot be used") && text.contains("prot"), "{text}");
    assert_eq!(service.held(Some(held)).await, held, "descriptors and children");
    Service::configure(&service.folder, "mmsg", "");
    all_is_as_it_was(&mut jicofo, &call).await;
    let heard = call.hush();
    eprintln!("upgrades that failed: {heard:?}");
    assert!(
        heard.iter().all(|(missing, longest)| *missing <= 3 && *longest < LONGEST_FREEZE),
        "{heard:?}\n{}",
        service.log.read()
    );
    // And then one that can.
    let (code, text) = service.upgrade(&[]).await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
    call.talk();
    tokio::time::sleep(Duration::from_millis(500)).await;
    call.hush();
    all_is_as_it_was(&mut jicofo, &call).await;
    assert_eq!(service.metric("ringbridge_upgrades{outcome=\"unfit\"}").await, 2.0, "counts are carried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_upgrade_is_refused_and_the_first_goes_on() {
    let Some((mut service, mut call, mut jicofo, _server)) = begin("twice", "").await else { return };
    service.install(Some(&format!("#!/bin/sh\nsleep 1\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_ringbridge"))));
    let first = service.ask(&[]);
    while service.page("/colibri/upgrade").await["under_way"] != true {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (code, text) = service.ask(&[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("an upgrade is under way already"), "{text}");
    // And of somebody who had looked before the first one began.
    let _ = Command::new("kill").args(["-USR2", &service.pid().to_string()]).status();
    let (code, text) = first.await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
    service.pids.push(service.page("/colibri/upgrade").await["pid"].as_u64().expect("a number"));
    all_is_as_it_was(&mut jicofo, &call).await;
    let heard = call.hush();
    assert!(heard.iter().all(|(missing, _)| *missing <= 3), "{heard:?}\n{}", service.log.read());
    assert!(service.log.read().contains("a second upgrade is refused"), "{}", service.log.read());
    assert_eq!(service.metric("ringbridge_upgrades{outcome=\"handed_over\"}").await, 1.0);
    assert_eq!(service.page("/colibri/upgrade").await["attempts"], 0, "the new process was not asked for one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_drains_or_shuts_down_goes_on_with_that() {
    let more = "bridge.shutdown { over-rest = true, delay = \"0 s\" }";
    let Some((mut service, mut call, mut jicofo, _server)) = begin("drain", more).await else { return };
    for (turn, drain) in [(0, true), (1, false)] {
        let path = format!("/colibri/drain/{}", if drain { "enable" } else { "disable" });
        let answer = http::request(service.rest, "POST", &path, &[], "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (code, text) = service.upgrade(&[]).await;
        assert_eq!(code, Some(0), "{turn}: {text}\n{}", service.log.read());
        assert_eq!(service.page("/colibri/drain").await["drain"], drain);
        assert_eq!(service.page("/colibri/stats").await["drain"], drain);
    }
    let body = r#"{"graceful-shutdown": true}"#;
    let json = [("Content-Type", "application/json")];
    let answer = http::request(service.rest, "POST", "/colibri/shutdown", &json, body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (code, text) = service.upgrade(&[]).await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
    assert_eq!(service.page("/colibri/stats").await["graceful_shutdown"], true);
    let another =
        ConferenceModify { create: true, endpoints: vec![jicofo::create("carl")], ..ConferenceModify::new("n") };
    let refused = jicofo.modify(another).await.expect_err("no new conferences");
    assert!(format!("{refused:?}").contains("raceful"), "{refused:?}");
    let heard = call.hush();
    assert!(heard.iter().all(|(missing, _)| *missing <= 9), "{heard:?}\n{}", service.log.read());
    // When the last have left, the process that took over ends by itself.
    ask(&mut jicofo, 0, ConferenceModify { expire: true, ..ConferenceModify::new(MEETING) }).await;
    let pid = service.pid();
    service.gone(pid).await;
    assert!(service.log.read().contains("bridge goes on with the conferences"), "{}", service.log.read());
}

/// Not a test: a program that says that it has another state version.
#[tokio::test]
async fn impostor() {
    let Ok(Some(mut wire)) = inherited() else { return };
    let hello = Hello { state_version: u16::MAX, ..Hello::own(2) };
    wire.send(&Message::Hello(hello)).await.expect("sent");
    let _ = wire.receive().await;
}
