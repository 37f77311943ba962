//! `ringbridge upgrade`: asks a running bridge to hand over to the program that is installed now, and says what came of it.
//!
//! The request is a signal, which only root and the service's own user may send; what came of it stands on the operators' pages.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use ureq::Agent;

/// Nothing was changed, and something would be lost or is not possible.
const EXIT_WOULD_LOSE: u8 = 3;

/// Where the status is.
const PAGE: &str = "/colibri/upgrade";
/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long an upgrade may take at most: its time limits, and some.
const LONGEST: Duration = Duration::from_secs(30);
/// How long nobody may answer once the process is gone that was asked: the other one serves its pages from the moment at which it has the calls.
const UNANSWERED: Duration = Duration::from_secs(3);
/// Wait between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// Most bytes of the page.
const MAX_PAGE: u64 = 1 << 20;
/// The program's name, as the kernel has it.
const NAME: &str = "ringbridge";

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the bridge's pages are.
    pub address: String,
    /// Only say what would be handed over.
    pub check: bool,
    /// The configuration is one of a focus without a bridge.
    pub focus_alone: bool,
}

/// The answer to who asks a focus without a bridge to hand over.
const FOCUS_ALONE: &str = "this is the configuration of a focus alone, which is not handed over: restart it instead (systemctl restart ringbridge); \
     with focus.state-directory its calls go on";

/// What a bridge says of its upgrades.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: i32,
    /// Its release.
    pub release: String,
    /// Upgrades that it has tried.
    pub attempts: u64,
    /// Whether one is under way.
    pub under_way: bool,
    /// Why the last one came to nothing.
    pub failure: Option<String>,
    /// How long nothing was sent when this process took over, milliseconds.
    pub frozen_millis: Option<u64>,
    /// Conferences now.
    pub conferences: u64,
    /// Endpoints now.
    pub endpoints: u64,
    /// Why it would not be handed over now, whatever is accepted.
    pub objection: Option<String>,
    /// Endpoints and relays with a bridge channel over SCTP, or that may still open one: the process would stay as its end.
    pub data_channels: u64,
    /// Which, the first of them.
    pub data_channels_of: String,
    /// Former processes that stay for others.
    pub keepers: u64,
    /// Handshakes under way, which are waited for, and then begin anew.
    pub handshakes: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All is well: a line for the operator.
    Done(String),
    /// It is not: a line for the operator.
    Failed(String),
    /// It would not be: a line for the operator.
    WouldLose(String),
}

impl Answer {
    /// What the command ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Done(_) => 0,
            Self::Failed(_) => 1,
            Self::WouldLose(_) => EXIT_WOULD_LOSE,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Done(text) | Self::Failed(text) | Self::WouldLose(text)) = self;
        f.write_str(text)
    }
}

/// Asks, waits, and says what came of it.
pub fn run(options: &Options) -> Answer {
    if options.focus_alone {
        return if options.check {
            Answer::WouldLose(FOCUS_ALONE.to_owned())
        } else {
            Answer::Failed(FOCUS_ALONE.to_owned())
        };
    }
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).proxy(None);
    let agent = Agent::new_with_config(config.build());
    let url = format!("http://{}{PAGE}", options.address);
    let before = match look(&agent, &url) {
        Ok(status) => status,
        Err(why) => return Answer::Failed(why),
    };
    if options.check {
        return foretell(&before);
    }
    if before.under_way {
        return Answer::Failed("an upgrade is under way already; wait for its outcome".to_owned());
    }
    if let Answer::WouldLose(why) = foretell(&before) {
        return Answer::Failed(why);
    }
    if let Err(why) = ask(before.pid) {
        return Answer::Failed(why);
    }
    let start = Instant::now();
    let (mut last, mut gone_since) = (None, None);
    while start.elapsed() < LONGEST {
        std::thread::sleep(INTERVAL);
        match look(&agent, &url) {
            Ok(now) => match judge(&before, &now) {
                Some(answer) => return answer,
                None => (last, gone_since) = (None, None),
            },
            // Between the two processes nobody answers.
            Err(why) if runs(before.pid) => last = Some(why),
            Err(why) => {
                let since = *gone_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= UNANSWERED {
                    return Answer::Failed(format!(
                        "process {} has ended, and no other one answers ({why}): its calls are lost; its log says more, and the \
                         service's supervisor starts it again",
                        before.pid
                    ));
                }
                last = Some(why);
            }
        }
    }
    let why = last.unwrap_or_else(|| "the upgrade has not ended".to_owned());
    Answer::Failed(format!("no outcome after {} s: {why}; its log says more", LONGEST.as_secs()))
}

/// What would happen.
fn foretell(status: &Status) -> Answer {
    let Status { pid, release, conferences, endpoints, objection, .. } = status;
    let who = format!("process {pid}, release {release}, {conferences} conferences, {endpoints} endpoints");
    if let Some(why) = objection {
        return Answer::WouldLose(format!("{who}: it would not be handed over: {why}"));
    }
    let mut rest = String::new();
    if status.data_channels > 0 {
        rest += &format!(
            "; process {pid} would stay as the end of {} data channels until those have left ({})",
            status.data_channels, status.data_channels_of
        );
    }
    if status.keepers > 0 {
        rest += &format!("; {} former processes stay for others", status.keepers);
    }
    if status.handshakes > 0 {
        rest += &format!("; {} handshakes are under way, which are waited for", status.handshakes);
    }
    Answer::Done(format!("{who}: all calls would be handed over{rest}"))
}

/// What a status says of the upgrade that was asked for; nothing while it goes on.
fn judge(before: &Status, now: &Status) -> Option<Answer> {
    if now.pid != before.pid {
        let frozen = now.frozen_millis.map_or(String::new(), |millis| format!("; media waited for {millis} ms"));
        return Some(Answer::Done(format!(
            "process {} (release {}) has taken over from process {} (release {}): {} conferences, {} endpoints{frozen}",
            now.pid, now.release, before.pid, before.release, now.conferences, now.endpoints
        )));
    }
    let ended = now.attempts > before.attempts && !now.under_way;
    ended.then(|| {
        let why = now.failure.as_deref().unwrap_or("it does not say why");
        Answer::Failed(format!("process {} (release {}) goes on as before: {why}", now.pid, now.release))
    })
}

fn look(agent: &Agent, url: &str) -> Result<Status, String> {
    let unreached = |error: ureq::Error| {
        format!("cannot read {url}: {error}; does the bridge run, with this as bridge.rest.listen?")
    };
    let mut answer = agent.get(url).header("Accept", "application/json").call().map_err(unreached)?;
    if !answer.status().is_success() {
        let status = answer.status();
        return Err(format!("{url} answers {status}: that bridge cannot hand over; drain and restart it this once"));
    }
    let body = answer.body_mut().with_config().limit(MAX_PAGE).read_to_vec().map_err(unreached)?;
    serde_json::from_slice(&body).map_err(|error| format!("{url} is not what a ringbridge says ({error})"))
}

/// Whether a process is there, and is more than an entry that its parent has yet to read.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, state)| !state.starts_with(" Z")))
}

/// Asks the process for an upgrade; only one of this program's, for which the signal means that.
fn ask(pid: i32) -> Result<(), String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|error| {
        format!("process {pid} is not on this host, or in another container: {error}; ask where the bridge runs")
    })?;
    let process = Pid::from_raw(pid).filter(|_| pid > 0 && name.starts_with(NAME));
    let process = process.ok_or_else(|| format!("process {pid} is {:?} and no {NAME}", name.trim_end()))?;
    kill_process(process, Signal::USR2)
        .map_err(|error| format!("process {pid} cannot be asked: {error}; be root, or the user of the service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            pid: 10,
            release: "0.1.0".to_owned(),
            attempts: 3,
            under_way: false,
            failure: Some("of the time before".to_owned()),
            frozen_millis: None,
            conferences: 4,
            endpoints: 20,
            objection: None,
            data_channels: 0,
            data_channels_of: String::new(),
            keepers: 0,
            handshakes: 0,
        }
    }

    #[test]
    fn the_outcome_is_that_of_the_upgrade_that_was_asked_for() {
        let before = status();
        assert_eq!(judge(&before, &before), None, "it has not begun");
        assert_eq!(judge(&before, &Status { attempts: 4, under_way: true, ..status() }), None);
        let failed = Status { attempts: 4, failure: Some("no such file".to_owned()), ..status() };
        assert!(matches!(judge(&before, &failed), Some(Answer::Failed(text)) if text.contains("no such file")));
        let new = Status { pid: 11, release: "0.2.0".to_owned(), frozen_millis: Some(37), attempts: 0, ..status() };
        let Some(Answer::Done(text)) = judge(&before, &new) else { panic!("it is done") };
        assert!(["11", "0.2.0", "0.1.0", "20 endpoints", "37 ms"].iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn a_check_says_what_is_in_the_way() {
        assert!(matches!(foretell(&status()), Answer::Done(text) if text.ends_with("would be handed over")));
        let objection = Some("the focus is in the same process".to_owned());
        let answer = foretell(&Status { objection, data_channels: 2, ..status() });
        assert!(matches!(answer, Answer::WouldLose(text) if text.contains("same process")));
    }

    #[test]
    fn a_check_says_what_stays_and_what_is_waited_for() {
        let of = |status: Status| match foretell(&status) {
            Answer::Done(text) => text,
            other => panic!("{other:?}"),
        };
        let channels = of(Status { data_channels: 2, data_channels_of: "aaaa in m".to_owned(), ..status() });
        assert!(channels.contains("process 10 would stay as the end of 2 data channels") && channels.contains("aaaa"));
        assert!(of(Status { keepers: 3, ..status() }).contains("3 former processes stay"));
        assert!(of(Status { handshakes: 1, ..status() }).contains("1 handshakes"));
    }

    #[test]
    fn other_programs_are_not_signalled() {
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let mut child = child.expect("a program of the system");
        let pid = i32::try_from(child.id()).expect("an id");
        assert!(ask(pid).is_err_and(|why| why.contains("no ringbridge")), "its name is sleep's");
        assert!(ask(0).is_err() && ask(-1).is_err() && ask(i32::MAX).is_err());
        assert_eq!(child.try_wait().expect("a child"), None, "it lives");
        child.kill().and_then(|()| child.wait()).expect("killed");
    }
}
