//! One of several linked bridges: a process, what is asked of it, and what it counts.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use tokio_xmpp::minidom::Element;

use crate::cores;
use crate::cpu::{self, CpuTime};
use crate::subject::SubjectError;
use crate::subject::whole::{Asking, Reply};

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
    /// Answers that nobody has asked for as yet.
    early: VecDeque<(String, Result<Option<Element>, String>)>,
    rest: SocketAddr,
    ids: u64,
}

impl BridgeProcess {
    /// Starts this very program as a bridge with that relay id; its worker has a core, its control plane another one.
    pub fn start(name: &str, core: usize, control_core: usize) -> Result<Self, SubjectError> {
        let failed = |what: String| SubjectError::Peer { name: name.to_owned(), what };
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let generator = cores::current();
        // What is started inherits the cores of this thread, and must be free to choose its own.
        cores::pin(cores::all())?;
        let child = Command::new(&program)
            .args(["linked-bridge", "--relay-id", name, "--core", &core.to_string()])
            .args(["--control-core", &control_core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        cores::pin(&generator)?;
        let mut child = child.map_err(|error| failed(format!("cannot start {}: {error}", program.display())))?;
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
        Ok(Self { name: name.to_owned(), child, input, replies, early: VecDeque::new(), rest, ids: 0 })
    }

    /// Its relay id.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn failed(&self, what: impl Into<String>) -> SubjectError {
        SubjectError::Peer { name: self.name.clone(), what: what.into() }
    }

    /// Sends a request; returns its id.
    pub fn send(&mut self, payload: &Element) -> Result<String, SubjectError> {
        self.ids += 1;
        let id = format!("linked{}", self.ids);
        let request = Asking { id: id.clone(), payload: String::from(payload) };
        let line = serde_json::to_string(&request).map_err(|error| self.failed(error.to_string()))?;
        match writeln!(self.input, "{line}").and_then(|()| self.input.flush()) {
            Ok(()) => Ok(id),
            Err(error) => Err(self.failed(format!("takes no requests: {error}"))),
        }
    }

    /// The answer to a request, if it is there.
    pub fn answer(&mut self, id: &str) -> Result<Option<Option<Element>>, SubjectError> {
        loop {
            match self.replies.try_recv() {
                Ok(Reply::Answer { id, payload }) => {
                    let payload = payload.map(|text| text.parse()).transpose();
                    self.early.push_back((id, payload.map_err(|error: tokio_xmpp::minidom::Error| error.to_string())));
                }
                Ok(Reply::Refused { id, error }) => self.early.push_back((id, Err(error))),
                Ok(Reply::Ready(_)) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(self.failed("has ended")),
            }
        }
        let Some(at) = self.early.iter().position(|(of, _)| of == id) else { return Ok(None) };
        match self.early.remove(at) {
            Some((_, Ok(payload))) => Ok(Some(payload)),
            Some((_, Err(error))) => Err(self.failed(format!("refused a request: {error}"))),
            None => Ok(None),
        }
    }

    /// When an answer to what is asked now is overdue.
    pub fn deadline() -> Instant {
        Instant::now() + PATIENCE
    }

    /// Processor time of its packet path, and of all of it.
    pub fn cpu(&self) -> Result<(CpuTime, CpuTime), SubjectError> {
        let of = |prefix| cpu::of_process(self.child.id(), prefix).map_err(SubjectError::Cpu);
        Ok((of(WORKER)?, of("")?))
    }

    /// One of its metrics, all workers and reasons together.
    pub fn metric(&self, name: &str) -> Result<f64, SubjectError> {
        let text =
            self.page("/metrics").map_err(|error| self.failed(format!("its metrics cannot be read: {error}")))?;
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let samples: Vec<f64> = text.lines().filter(of_it).filter_map(value).collect();
        match samples[..] {
            [] => Err(self.failed(format!("has no metric {name}"))),
            _ => Ok(samples.iter().sum()),
        }
    }

    fn page(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.rest)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.rest)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for BridgeProcess {
    fn drop(&mut self) {
        self.end();
    }
}
