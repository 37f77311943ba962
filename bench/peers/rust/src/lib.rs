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
        /// Who.
        id: usize,
        /// The offer.
        sdp: String,
    },
    /// A subscriber, who is to be offered everything that is published.
    Subscribe {
        /// Who.
        id: usize,
    },
    /// A subscriber's answer.
    Answer {
        /// Who.
        id: usize,
        /// The answer.
        sdp: String,
    },
}

/// What the generator is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Participants may come.
    Ready {
        /// Processes whose processor time counts.
        pids: Vec<u32>,
        /// What this is.
        version: String,
    },
    /// To `Publish`.
    Answer {
        /// Who.
        id: usize,
        /// The answer.
        sdp: String,
    },
    /// To `Subscribe`.
    Offer {
        /// Who.
        id: usize,
        /// The offer.
        sdp: String,
    },
    /// To `Answer`.
    Accepted {
        /// Who.
        id: usize,
    },
    /// To any of them.
    Failed {
        /// Who.
        id: usize,
        /// Why.
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

/// Moves the process to the core of `--core N`, says `Ready`, and reads requests on a thread of its own, which ends the
/// process with standard input. Call it before other threads start.
pub fn start(version: &str) -> Receiver<Request> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--core").skip(1);
    if let Some(core) = arguments.next().and_then(|core| core.parse().ok()) {
        let mut set = nix::sched::CpuSet::new();
        let pinned = set.set(core).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
        if let Err(error) = pinned {
            eprintln!("cannot run on core {core}: {error}");
            std::process::exit(1);
        }
    }
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
        std::process::exit(0);
    });
    reply(&Reply::Ready { pids: vec![std::process::id()], version: version.to_owned() });
    receiver
}
