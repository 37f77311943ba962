//! `kill -9` of either process at each step of an upgrade (docs/upgrade.md, "When a process dies"): the processes are whole bridges with a
//! call. What is started as the new one is a program between the two, which passes on what they say to each other up to a step, kills one
//! of them there, and passes on the rest: what is written outlives its writer. Or it kills nobody, and holds them while nothing is sent.

use std::os::fd::{AsFd, BorrowedFd};

use ringbridge_controlplane::upgrade::{FROM_VARIABLE, Peer, Received, Wire, pair};
use ringbridge_controlplane::xmpp::XmppEvent;
use tokio_xmpp::Stanza;
use xmpp_parsers::iq::Iq;

use super::*;

/// Whom the program between them kills, and at which step: `old@state`; or [`HOLD`].
const PLAN: &str = "TEST_UPGRADE_KILLS";
/// It kills nobody, and passes the state on as soon as a file allows it.
const HOLD: &str = "nobody@state";
/// The program and the arguments of the new process, and a file for its id.
const PROGRAM: &str = "TEST_UPGRADE_PROGRAM";
const ARGUMENTS: &str = "TEST_UPGRADE_ARGUMENTS";
const RECORD: &str = "TEST_UPGRADE_RECORD";

/// Bytes by which a process may grow in upgrades that come to nothing: a state is written in most of them, and let go.
const MORE_MEMORY: u64 = 8 << 20;

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The running process serves as before.
    OldGoesOn,
    /// The calls end, as in a crash, and no process is left.
    BothEnd,
    /// The new process serves.
    NewServes,
}
use Outcome::{BothEnd, NewServes, OldGoesOn};

/// Each step: its name, what has happened by then, and what comes of it when the new or the running process is killed.
const STEPS: [(&str, Outcome, Outcome); 9] = [
    // The new process has said nothing.
    ("start", OldGoesOn, BothEnd),
    // It has read its configuration, and the running one does not know yet.
    ("hello", OldGoesOn, BothEnd),
    // It has everything but the state, likewise.
    ("prepared", OldGoesOn, BothEnd),
    // The running one knows, waits for handshakes and comes to rest.
    ("quiescence", OldGoesOn, BothEnd),
    // It sends nothing any more, and its state is written.
    ("state", OldGoesOn, BothEnd),
    // The new one has that, and has not read it.
    ("import", OldGoesOn, BothEnd),
    // It has read it and would serve.
    ("ready", OldGoesOn, BothEnd),
    // The commit is written, and the new one has not read it.
    ("commit", BothEnd, NewServes),
    // The new one serves, and the running one does not know yet.
    ("serving", BothEnd, NewServes),
];

fn signal(name: &str, pid: impl ToString) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("a program of the system");
    assert!(status.success(), "{name}");
}

/// Not a test: the program between the two.
#[expect(clippy::zombie_processes, reason = "the new process serves on without this program")]
#[tokio::test]
async fn go_between() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let (victim, at) = plan.split_once('@').expect("who and where");
    let Ok(Some(mut old)) = inherited() else { return };
    let (variable, me) = (|name| std::env::var(name).expect("given"), std::process::id());
    let (own, other) = pair().expect("sockets");
    let mut command = Command::new(variable(PROGRAM));
    command.args(variable(ARGUMENTS).split(' ')).env(FROM_VARIABLE, me.to_string()).stdin(Stdio::from(other));
    let mut child = command.spawn().expect("starts");
    // It has the other end still.
    drop(command);
    std::fs::write(variable(RECORD), child.id().to_string()).expect("written");
    let peer = Peer { pid: i32::try_from(child.id()).expect("an id"), uid: rustix::process::getuid().as_raw() };
    let mut new = Wire::new(own, peer).expect("a wire");
    let (new_pid, old_pid) = (child.id().to_string(), variable(FROM_VARIABLE));
    let kill_at = |step: &str| {
        if at == step && plan != HOLD {
            signal("-KILL", if victim == "old" { &old_pid } else { &new_pid });
        }
    };
    kill_at("start");
    // Until both are gone, since whoever is left may have something to say.
    let (mut old_is_there, mut new_is_there) = (true, true);
    while old_is_there && new_is_there {
        tokio::select! {
            received = old.receive(), if old_is_there => match received {
                Ok(Received::State { file, length, descriptors }) => {
                    kill_at("state");
                    if plan == HOLD {
                        let beside = |what| PathBuf::from(variable(RECORD)).with_extension(what);
                        std::fs::write(beside("frozen"), "").expect("written");
                        while !beside("go").exists() {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                    }
                    if at == "import" {
                        signal("-STOP", &new_pid);
                    }
                    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
                    let _ = new.send_state(file.as_fd(), length, &borrowed).await;
                    kill_at("import");
                    if at == "import" && victim == "old" {
                        signal("-CONT", &new_pid);
                    }
                }
                Ok(Received::Message(message)) => {
                    if matches!(message, Message::Commit { .. }) {
                        kill_at("commit");
                    }
                    let _ = new.send(&message).await;
                }
                _ => old_is_there = false,
            },
            received = new.receive(), if new_is_there => match received {
                Ok(Received::Message(message)) => {
                    let step = match message {
                        Message::Hello(_) => "hello",
                        Message::Prepared => "prepared",
                        Message::Ready => "ready",
                        Message::Serving => "serving",
                        _ => "",
                    };
                    kill_at(step);
                    if plan == format!("new@{step}") {
                        // The running process finds the message and the end behind it at once, as if there were nobody in between.
                        signal("-STOP", &old_pid);
                        let _ = old.send(&message).await;
                        break;
                    }
                    let prepared = message == Message::Prepared;
                    let _ = old.send(&message).await;
                    if prepared {
                        kill_at("quiescence");
                    }
                }
                _ => new_is_there = false,
            },
        }
    }
    drop((old, new));
    // Also where it runs, or is gone.
    let _ = Command::new("kill").args(["-CONT", &old_pid]).status();
    // It serves on without this program, unless it ends.
    if plan != HOLD && (victim == "new" || !matches!(at, "commit" | "serving")) {
        let _ = child.wait();
    }
}

fn is_there(pid: impl std::fmt::Display) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

impl Service {
    fn go_between(&self, plan: &str) {
        let (folder, program) = (self.folder.display(), std::env::current_exe().expect("a path"));
        self.install(Some(&format!(
            "#!/bin/sh\nexport {PLAN}='{plan}' {PROGRAM}='{}' {RECORD}='{folder}/new' {ARGUMENTS}=\"$*\"\n\
             exec '{}' --exact upgrades::steps::go_between --nocapture\n",
            env!("CARGO_BIN_EXE_ringbridge"),
            program.display()
        )));
        let _ = std::fs::remove_file(self.folder.join("new"));
    }

    /// The id of the process that was to take over.
    fn new_pid(&self) -> String {
        std::fs::read_to_string(self.folder.join("new")).expect("it was started")
    }

    pub(super) async fn gone(&mut self, pid: impl std::fmt::Display) {
        let end = Instant::now() + WAIT;
        while is_there(&pid) {
            let _ = self.child.try_wait();
            assert!(Instant::now() < end, "process {pid} is left: {}", self.log.read());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_is_killed_before_the_commit_changes_nothing() {
    let Some((mut service, mut call, mut jicofo, _server)) = begin("killed-new", "").await else { return };
    let held = service.held(None).await;
    let mut memory = None;
    let mut deaths = 0;
    for (step, outcome, _) in STEPS {
        if outcome != OldGoesOn {
            continue;
        }
        service.go_between(&format!("new@{step}"));
        let (code, text) = service.upgrade(&[]).await;
        assert_eq!(code, Some(1), "{step}: {text}\n{}", service.log.read());
        assert!(text.contains("goes on as before: the new process ended"), "{step}: {text}");
        assert_eq!(service.pids.len(), 1, "{step}: it is the same process");
        service.gone(service.new_pid()).await;
        deaths += 1;
        assert_eq!(service.metric("ringbridge_upgrades{outcome=\"died\"}").await, f64::from(deaths), "{step}");
        assert_eq!(service.held(Some(held)).await, held, "{step}: descriptors and children");
        memory.get_or_insert(service.memory());
    }
    let (first, last) = (memory.expect("at least one step"), service.memory());
    assert!(last < first + MORE_MEMORY, "it grew from {first} to {last} bytes");
    all_is_as_it_was(&mut jicofo, &call).await;
    let heard = call.hush();
    eprintln!("new processes that were killed: {heard:?}");
    let fine = |(missing, longest): &(u64, Duration)| *missing <= 3 && *longest < LONGEST_FREEZE;
    assert!(heard.iter().all(fine), "{heard:?}\n{}", service.log.read());
    // And then one that is not.
    service.install(None);
    let (code, text) = service.upgrade(&[]).await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_process_that_is_killed_before_the_commit_leaves_nobody_behind() {
    for (number, (step, _, outcome)) in STEPS.into_iter().enumerate() {
        if outcome != BothEnd {
            continue;
        }
        let Some((mut service, mut call, _jicofo, _server)) = begin(&format!("killed-old-{step}"), "").await else {
            return;
        };
        service.go_between(&format!("old@{step}"));
        let old = service.pid();
        if number == 0 {
            let (code, text) = service.ask(&[]).await;
            assert_eq!(code, Some(1), "{text}");
            assert!(text.contains(&format!("process {old} has ended")), "{text}");
        } else {
            signal("-USR2", old);
        }
        service.gone(old).await;
        service.gone(service.new_pid()).await;
        assert!(tokio::net::TcpStream::connect(service.rest).await.is_err(), "{step}: somebody listens");
        call.cut();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_commit_the_call_is_the_new_process_s_whatever_becomes_of_the_former_one() {
    for (step, of_new, of_old) in STEPS {
        if of_old != NewServes {
            continue;
        }
        assert_eq!(of_new, BothEnd);
        // Killed after it was given the call: a crash, which the service's supervisor hears of.
        let Some((mut service, mut call, _jicofo, _server)) = begin(&format!("killed-new-{step}"), "").await else {
            return;
        };
        service.go_between(&format!("new@{step}"));
        let old = service.pid();
        signal("-USR2", old);
        service.gone(old).await;
        service.gone(service.new_pid()).await;
        let status = service.child.wait().expect("a child");
        // Of one that had said that it serves, the former process has nothing more to say.
        let unheard = step == "commit";
        assert_eq!(status.code().is_some_and(|code| code != 0), unheard, "{step}: {status}\n{}", service.log.read());
        assert_eq!(service.log.read().contains("not heard of"), unheard, "{step}: {}", service.log.read());
        call.cut();

        let begun = begin(&format!("killed-old-{step}"), "").await;
        let Some((mut service, mut call, mut jicofo, _server)) = begun else { return };
        service.go_between(&format!("old@{step}"));
        let old = service.pid();
        signal("-USR2", old);
        service.gone(old).await;
        let new = service.new_pid();
        let end = Instant::now() + WAIT;
        while !http::get(service.rest, "/colibri/upgrade").await.contains(&format!("\"pid\":{new}")) {
            assert!(Instant::now() < end, "{step}: it does not serve: {}", service.log.read());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service.pids.push(new.parse().expect("an id"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        all_is_as_it_was(&mut jicofo, &call).await;
        let heard = call.hush();
        eprintln!("the former process was killed at the {step}: {heard:?}");
        assert!(heard.iter().all(|(missing, _)| *missing <= 3), "{step}: {heard:?}\n{}", service.log.read());
        assert_eq!(service.metric("ringbridge_upgrades{outcome=\"handed_over\"}").await, 1.0);
    }
}

/// A participant as signalled, who has sent the bridge nothing yet.
async fn invite(jicofo: &mut Jicofo, name: &str) -> Phone {
    let request = ConferenceModify { endpoints: vec![jicofo::create(name)], ..ConferenceModify::new(MEETING) };
    let phone = Phone::new(name, &ice(&ask(jicofo, 0, request).await.endpoints[0].transport));
    let transport = Some(Transport { ice: Some(phone.transport()), ..Transport::default() });
    let endpoint = Endpoint { transport, ..Endpoint::new(name) };
    ask(jicofo, 0, ConferenceModify { endpoints: vec![endpoint], ..ConferenceModify::new(MEETING) }).await;
    phone
}

/// Asks `to`, and waits for its answer; those to `request` that came before.
async fn answers(jicofo: &mut Jicofo, request: &str, to: &str) -> Vec<Iq> {
    let (last, ping) = (format!("after-{request}-{to}"), "<ping xmlns='urn:xmpp:ping'/>".parse().expect("XML"));
    jicofo.sender.send(Iq::Get {
        from: None,
        to: Some(to.parse().expect("an address")),
        id: last.clone(),
        payload: ping,
    });
    let mut answers = Vec::new();
    loop {
        let iq = match jicofo.next().await {
            XmppEvent::Stanza(Stanza::Iq(iq)) => iq,
            XmppEvent::Stanza(Stanza::Presence(presence)) => {
                jicofo.presences.push(presence);
                continue;
            }
            _ => continue,
        };
        match &iq {
            Iq::Result { id, .. } | Iq::Error { id, .. } if *id == last => return answers,
            Iq::Result { id, .. } | Iq::Error { id, .. } if *id == request => answers.push(iq),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_while_nothing_is_sent_is_let_in_by_the_new_process() {
    let Some((mut service, mut call, mut jicofo, _server)) = begin("joins", "").await else { return };
    // One has sent nothing yet, and one has only begun with ICE. Neither says anything twice.
    let (mut carl, mut dora) = (invite(&mut jicofo, "carl").await, invite(&mut jicofo, "dora").await);
    (carl.patient, dora.patient, dora.holds) = (true, true, true);
    let end = Instant::now() + WAIT;
    while !dora.is_reached() {
        assert!(Instant::now() < end, "the bridge answers no check");
        dora.turn();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.go_between(HOLD);
    let old = service.pid();
    let asked = service.ask(&[]);
    let beside = |what| service.folder.join("new").with_extension(what);
    while !beside("frozen").exists() {
        assert!(Instant::now() < end, "{}", service.log.read());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Nothing is sent: a request, a first check, the beginning of a handshake, somebody who looks.
    let create = ConferenceModify { endpoints: vec![jicofo::create("emil")], ..ConferenceModify::new(MEETING) };
    let to = format!("{}/{}", prosody::BREWERY, BRIDGES[0]);
    let (id, payload) = ("frozen".to_owned(), create.into());
    jicofo.sender.send(Iq::Get { from: None, to: Some(to.parse().expect("an address")), id: id.clone(), payload });
    carl.turn();
    dora.holds = false;
    dora.turn();
    let looks = tokio::spawn(http::get(service.rest, "/colibri/upgrade"));
    // The server answers in order: it has passed the request on.
    let early = answers(&mut jicofo, &id, "auth.meet.test").await;
    std::fs::write(beside("go"), "").expect("written");
    assert_eq!(early, [], "the former process answers while it is frozen");
    let (code, text) = asked.await;
    assert_eq!(code, Some(0), "{text}\n{}", service.log.read());
    let new = service.new_pid();
    service.pids.push(new.parse().expect("an id"));
    let looked = looks.await.expect("no panic");
    assert!(looked.contains(&format!("\"pid\":{new}")) && old.to_string() != new, "{looked}");
    let late = answers(&mut jicofo, &id, &to).await;
    assert!(matches!(&late[..], [Iq::Result { payload: Some(_), .. }]), "answered once: {late:?}");
    assert_eq!(answers(&mut jicofo, &id, &to).await, [], "and not again");
    for phone in [&mut carl, &mut dora] {
        while !phone.is_connected() {
            assert!(Instant::now() < end, "what was sent into the freeze was lost: {}", service.log.read());
            phone.turn();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // Statistics are a few seconds old.
    let mut stats = service.page("/colibri/stats").await;
    while stats["local_endpoints"] != 5 {
        assert!(Instant::now() < end, "{stats}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        stats = service.page("/colibri/stats").await;
    }
    assert_eq!(stats["total_participants"], 5, "{stats}");
    nobody_left(&jicofo);
    let heard = call.hush();
    eprintln!("joins while nothing was sent: {text}{heard:?}");
    assert!(heard.iter().all(|(missing, _)| *missing <= 3), "{heard:?}\n{}", service.log.read());
}
