//! What the minimal forwarders share: "SDP over lines" on standard input and output (bench/peers/README.md).

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, channel};

use serde::{Deserialize, Serialize};

/// What the generator asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A publisher with its offer.
    Publish {
        /// Number of the participant.
        id: usize,
        /// The room that it publishes to.
        #[serde(default)]
        room: usize,
        /// The offer.
        sdp: String,
    },
    /// A subscriber, who is to be offered everything that is published in its room.
    Subscribe {
        /// Number of the participant.
        id: usize,
        /// Its room.
        #[serde(default)]
        room: usize,
    },
    /// A subscriber's answer.
    Answer {
        /// Number of the participant.
        id: usize,
        /// The answer.
        sdp: String,
    },
}

/// What the generator gets in answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Participants may come.
    Ready {
        /// Processes whose processor time counts.
        pids: Vec<u32>,
        /// Name and version of the forwarder.
        version: String,
    },
    /// Instead of `Ready`: why this peer cannot run here, and the remedy.
    Missing(String),
    /// To `Publish`.
    Answer {
        /// Number of the participant.
        id: usize,
        /// The answer.
        sdp: String,
    },
    /// To `Subscribe`.
    Offer {
        /// Number of the participant.
        id: usize,
        /// The offer.
        sdp: String,
    },
    /// To `Answer`.
    Accepted {
        /// Number of the participant.
        id: usize,
    },
    /// To any of them.
    Failed {
        /// Number of the participant.
        id: usize,
        /// The error, with its remedy.
        error: String,
    },
}

/// Writes a reply.
pub fn reply(reply: &Reply) {
    let line = serde_json::to_string(reply).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    // A generator that is gone is noticed at the end of standard input.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// [`pin`] and [`serve`], for a forwarder in this process, which ends with standard input.
pub fn start(version: &str) -> Receiver<Request> {
    pin(std::process::id());
    serve(&[std::process::id()], version, || std::process::exit(0))
}

/// Moves all threads of a process to the core of `--core N`. Threads and processes that they start later inherit it.
pub fn pin(pid: u32) {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--core").skip(1);
    let Some(core) = arguments.next().and_then(|core| core.parse().ok()) else { return };
    if let Err(error) = pin_to(pid, core) {
        eprintln!("cannot run on core {core}: {error}");
        std::process::exit(1);
    }
}

fn pin_to(pid: u32, core: usize) -> std::io::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core)?;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Some(task) = task?.file_name().to_str().and_then(|task| task.parse().ok()) else { continue };
        match nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(task), &set) {
            // It has just ended.
            Err(nix::errno::Errno::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Says `Ready`, and reads requests on a thread of its own, which calls `ended` at the end of standard input.
pub fn serve(pids: &[u32], version: &str, ended: impl FnOnce() + Send + 'static) -> Receiver<Request> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(request) => {
                    if sender.send(request).is_err() {
                        break;
                    }
                }
                Err(error) => eprintln!("not a request: {error}: {line}"),
            }
        }
        ended();
    });
    reply(&Reply::Ready { pids: pids.to_vec(), version: version.to_owned() });
    receiver
}
