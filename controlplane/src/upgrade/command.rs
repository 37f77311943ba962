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
    /// Bridge channels over SCTP may end.
    pub drop_data_channels: bool,
}

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
    /// Bridge channels over SCTP, which would end.
    pub data_channels: u64,
    /// Whose, the first of them.
    pub data_channels_of: String,
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
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).proxy(None);
    let agent = Agent::new_with_config(config.build());
    let url = format!("http://{}{PAGE}", options.address);
    let before = match look(&agent, &url) {
        Ok(status) => status,
        Err(why) => return Answer::Failed(why),
    };
    if options.check {
        return foretell(&before, options.drop_data_channels);
    }
    if before.under_way {
        return Answer::Failed("an upgrade is under way already; wait for its outcome".to_owned());
    }
    if let Answer::WouldLose(why) = foretell(&before, options.drop_data_channels) {
        return Answer::Failed(why);
    }
    if let Err(why) = ask(before.pid, options.drop_data_channels) {
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
fn foretell(status: &Status, drop_data_channels: bool) -> Answer {
    let Status { pid, release, conferences, endpoints, objection, data_channels, data_channels_of, handshakes, .. } =
        status;
    let who = format!("process {pid}, release {release}, {conferences} conferences, {endpoints} endpoints");
    let mut rest = match handshakes {
        0 => String::new(),
        count => format!("; {count} handshakes are under way, which are waited for"),
    };
    match (objection, data_channels) {
        (Some(why), _) => return Answer::WouldLose(format!("{who}: it would not be handed over: {why}")),
        (None, 0) => {}
        (None, count) if drop_data_channels => {
            rest += &format!("; {count} data channels would end ({data_channels_of})")
        }
        (None, count) => {
            return Answer::WouldLose(format!(
                "{who}: it would not be handed over: {count} bridge channels are data channels, which cannot be ({data_channels_of}); \
                 wait until those have left, offer WebSockets (bridge.websocket.*), or accept that they end (--drop-data-channels)"
            ));
        }
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
fn ask(pid: i32, drop_data_channels: bool) -> Result<(), String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|error| {
        format!("process {pid} is not on this host, or in another container: {error}; ask where the bridge runs")
    })?;
    let process = Pid::from_raw(pid).filter(|_| pid > 0 && name.starts_with(NAME));
    let process = process.ok_or_else(|| format!("process {pid} is {:?} and no {NAME}", name.trim_end()))?;
    let signal = if drop_data_channels { Signal::USR1 } else { Signal::USR2 };
    kill_process(process, signal)
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
        assert!(matches!(foretell(&status(), false), Answer::Done(_)));
        let objection = Some("the focus is in the same process".to_owned());
        for accepted in [false, true] {
            let answer = foretell(&Status { objection: objection.clone(), ..status() }, accepted);
            assert!(matches!(answer, Answer::WouldLose(text) if text.contains("same process")));
        }
        let channels = Status { data_channels: 2, data_channels_of: "aaaa in m".to_owned(), ..status() };
        assert!(
            matches!(foretell(&channels, false), Answer::WouldLose(text) if text.contains("2 bridge") && text.contains("aaaa"))
        );
        assert!(matches!(foretell(&channels, true), Answer::Done(text) if text.contains("2 data channels would end")));
        assert!(
            matches!(foretell(&Status { handshakes: 1, ..status() }, false), Answer::Done(text) if text.contains("1 handshakes"))
        );
    }

    #[test]
    fn other_programs_are_not_signalled() {
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let mut child = child.expect("a program of the system");
        let pid = i32::try_from(child.id()).expect("an id");
        for drop in [false, true] {
            assert!(ask(pid, drop).is_err_and(|why| why.contains("no ringbridge")), "its name is sleep's");
            assert!(ask(0, drop).is_err() && ask(-1, drop).is_err() && ask(i32::MAX, drop).is_err());
        }
        assert_eq!(child.try_wait().expect("a child"), None, "it lives");
        child.kill().and_then(|()| child.wait()).expect("killed");
    }
}
