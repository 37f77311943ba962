//! One of several linked bridges: a process, what is asked of it, and what it counts.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use tokio_xmpp::minidom::Element;

use crate::cores;
use crate::cpu::{self, CpuTime};
use crate::generator::world::World;
use crate::subject::whole::{Asking, Reply};
use crate::subject::{SubjectError, pages};

/// How long it may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names of its packet path's threads begin so.
const WORKER: &str = "rb-worker";

/// A running bridge.
pub(super) struct BridgeProcess {
    name: String,
    child: Child,
    input: ChildStdin,
    replies: Receiver<Reply>,
    rest: SocketAddr,
    ids: u64,
}

impl BridgeProcess {
    /// Starts this very program as a bridge with that relay id; its worker has a core, its control plane another one.
    pub fn start(name: &str, core: usize, control_core: usize) -> Result<Self, SubjectError> {
        let failed = |what: String| SubjectError::Peer { name: name.to_owned(), what };
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let spawn = || {
            Command::new(&program)
                .args(["linked-bridge", "--relay-id", name, "--core", &core.to_string()])
                .args(["--control-core", &control_core.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut child =
            cores::freely(spawn)?.map_err(|error| failed(format!("cannot start {}: {error}", program.display())))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("has no pipes".into()));
        };
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(reply) = serde_json::from_str(&line) else { break };
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        let rest = match replies.recv_timeout(PATIENCE) {
            Ok(Reply::Ready(rest)) => rest,
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("did not start within {} s; its log is above", PATIENCE.as_secs())));
            }
        };
        Ok(Self { name: name.to_owned(), child, input, replies, rest, ids: 0 })
    }

    fn failed(&self, what: impl Into<String>) -> SubjectError {
        SubjectError::Peer { name: self.name.clone(), what: what.into() }
    }

    /// Asks it something, and waits for the answer while the world goes on.
    pub fn ask(&mut self, world: &mut World, request: &Element) -> Result<Element, SubjectError> {
        self.ids += 1;
        let id = format!("linked{}", self.ids);
        let asking = Asking { id: id.clone(), payload: String::from(request) };
        let line = serde_json::to_string(&asking).map_err(|error| self.failed(error.to_string()))?;
        let written = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        written.map_err(|error| self.failed(format!("takes no requests: {error}")))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.replies.try_recv() {
                Ok(Reply::Answer { id: of, payload }) if of == id => {
                    let payload = payload.ok_or_else(|| self.failed("answered with nothing"))?;
                    return payload.parse().map_err(|error: tokio_xmpp::minidom::Error| self.failed(error.to_string()));
                }
                Ok(Reply::Refused { id: of, error }) if of == id => {
                    return Err(self.failed(format!("refused a request: {error}")));
                }
                Ok(_) => continue,
                Err(TryRecvError::Disconnected) => return Err(self.failed("has ended")),
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            if now > deadline {
                return Err(self.failed(format!("does not answer {}", asking.payload)));
            }
            world.step_or_pause(now, Duration::from_micros(50))?;
        }
    }

    /// Processor time of its packet path, and of all of it.
    pub fn cpu(&self) -> Result<(CpuTime, CpuTime), SubjectError> {
        let of = |prefix| cpu::of_process(self.child.id(), prefix).map_err(SubjectError::Cpu);
        Ok((of(WORKER)?, of("")?))
    }

    /// One of its metrics, all workers and reasons together.
    pub fn metric(&self, name: &str) -> Result<f64, SubjectError> {
        let text = pages::get(self.rest, "/metrics")
            .map_err(|error| self.failed(format!("its metrics cannot be read: {error}")))?;
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let samples: Vec<f64> = text.lines().filter(of_it).filter_map(value).collect();
        match samples[..] {
            [] => Err(self.failed(format!("has no metric {name}"))),
            _ => Ok(samples.iter().sum()),
        }
    }
}

/// Ends it as a crash would.
impl Drop for BridgeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
