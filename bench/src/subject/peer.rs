//! Another forwarder as a process, spoken to by "SDP over lines" (bench/peers/README.md).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{OwnCounters, Subject, SubjectError};
use crate::cpu::{self, CpuTime};
use crate::generator::sdp;
use crate::generator::world::{ClientId, World};
use crate::media::Codec;

/// How long a peer may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Request<'a> {
    Publish {
        id: usize,
        room: usize,
        sdp: &'a str,
    },
    Subscribe {
        id: usize,
        room: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        sdp: Option<&'a str>,
    },
    Answer {
        id: usize,
        sdp: &'a str,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ready {
        pids: Vec<u32>,
        version: String,
        #[serde(default)]
        subscribers_offer: bool,
    },
    Missing(String),
    Answer {
        id: usize,
        sdp: String,
    },
    Offer {
        sdp: String,
    },
    Accepted {},
    Failed {
        id: usize,
        error: String,
    },
}

/// A running peer process.
pub struct Peer {
    name: String,
    /// Version that the peer reports.
    pub version: String,
    child: Child,
    input: Option<ChildStdin>,
    replies: Receiver<Reply>,
    pids: Vec<u32>,
    /// Its subscribers offer what they want, as in WHEP; to others it offers.
    subscribers_offer: bool,
    /// What is published in each room.
    published: HashMap<usize, Vec<Codec>>,
}

impl Peer {
    /// Starts a peer on a core.
    pub fn start(name: &str, program: &Path, core: usize) -> Result<Self, SubjectError> {
        if !program.exists() {
            let text = format!("{} is not built; run bench/peers/build", program.display());
            return Err(SubjectError::Missing(text));
        }
        let failed = |what: String| SubjectError::Peer { name: name.to_owned(), what };
        let log = if std::env::var_os("PEER_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut child = Command::new(program)
            .args(["--core", &core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| failed(format!("cannot start {}: {error}", program.display())))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, replies) = channel();
        if let Some(output) = output {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    match serde_json::from_str(&line) {
                        Ok(reply) => {
                            if sender.send(reply).is_err() {
                                break;
                            }
                        }
                        Err(error) => tracing::warn!(%error, line, "a peer wrote something else than a reply"),
                    }
                }
            });
        }
        let mut peer = Self {
            name: name.to_owned(),
            version: String::new(),
            child,
            input,
            replies,
            pids: Vec::new(),
            subscribers_offer: false,
            published: HashMap::new(),
        };
        match peer.replies.recv_timeout(PATIENCE) {
            Ok(Reply::Ready { pids, version, subscribers_offer }) => {
                (peer.pids, peer.version, peer.subscribers_offer) = (pids, version, subscribers_offer);
            }
            Ok(Reply::Missing(reason)) => return Err(SubjectError::Missing(reason)),
            Ok(other) => return Err(failed(format!("said {other:?} before it was ready"))),
            Err(_) => return Err(failed("did not start within 30 s; set PEER_LOG=1 to see its log".into())),
        }
        Ok(peer)
    }

    fn failed(&self, what: impl Into<String>) -> SubjectError {
        SubjectError::Peer { name: self.name.clone(), what: what.into() }
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<(), SubjectError> {
        let line = serde_json::to_string(request).map_err(|error| self.failed(error.to_string()))?;
        let written = self.input.as_mut().map(|input| writeln!(input, "{line}").and_then(|()| input.flush()));
        match written {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failed("has ended; set PEER_LOG=1 to see its log")),
        }
    }

    /// Waits for a reply while the world goes on.
    fn reply(&mut self, world: &mut World) -> Result<Reply, SubjectError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.replies.try_recv() {
                Ok(Reply::Failed { id, error }) => return Err(self.failed(format!("client {id}: {error}"))),
                Ok(reply) => return Ok(reply),
                Err(TryRecvError::Disconnected) => {
                    return Err(self.failed("has ended; set PEER_LOG=1 to see its log"));
                }
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            if now > deadline {
                return Err(self.failed("did not answer within 30 s; set PEER_LOG=1 to see its log"));
            }
            world.step_or_pause(now, Duration::from_micros(200))?;
        }
    }
}

impl Peer {
    /// Waits for the answer to a client's offer.
    fn take_answer(&mut self, world: &mut World, client: ClientId) -> Result<(), SubjectError> {
        let Reply::Answer { id, sdp: answer } = self.reply(world)? else {
            return Err(self.failed("answered an offer with something else"));
        };
        if id != client {
            return Err(self.failed(format!("answered client {id} instead of {client}")));
        }
        let remote = sdp::parse(&answer).map_err(|error| self.failed(error.to_string()))?;
        world.set_remote(client, remote, true);
        Ok(())
    }
}

impl Subject for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn join(&mut self, world: &mut World, client: ClientId, room: usize) -> Result<(), SubjectError> {
        let streams = world.streams_of(client);
        let numbers = world.numbers_of(client);
        if !streams.is_empty() {
            self.published.entry(room).or_default().extend(streams.iter().map(|(codec, _)| *codec));
            let offer = world.describe(client, |local| sdp::offer(local, &numbers, &streams));
            self.ask(&Request::Publish { id: client, room, sdp: &offer })?;
            self.take_answer(world, client)
        } else if self.subscribers_offer {
            let codecs = self.published.get(&room).map(Vec::as_slice).unwrap_or_default();
            let offer = world.describe(client, |local| sdp::offer_to_receive(local, &numbers, codecs));
            self.ask(&Request::Subscribe { id: client, room, sdp: Some(&offer) })?;
            self.take_answer(world, client)
        } else {
            self.ask(&Request::Subscribe { id: client, room, sdp: None })?;
            let Reply::Offer { sdp: offer } = self.reply(world)? else {
                return Err(self.failed("answered `subscribe` with something else"));
            };
            let remote = sdp::parse(&offer).map_err(|error| self.failed(error.to_string()))?;
            let answer = world.describe(client, |local| sdp::answer(local, &remote));
            // Checks may come before the peer says that it accepts.
            world.set_remote(client, remote, false);
            self.ask(&Request::Answer { id: client, sdp: &answer })?;
            let Reply::Accepted {} = self.reply(world)? else {
                return Err(self.failed("did not accept an answer"));
            };
            Ok(())
        }
    }

    fn poll(&mut self, _now: Instant) -> Result<(), SubjectError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.failed(format!("ended: {status}"))),
            _ => Ok(()),
        }
    }

    fn cpu(&self) -> Result<CpuTime, SubjectError> {
        let mut sum = CpuTime::default();
        for pid in &self.pids {
            sum.add(cpu::of_process(*pid, "").map_err(SubjectError::Cpu)?);
        }
        Ok(sum)
    }

    fn counters(&self) -> Option<OwnCounters> {
        None
    }

    fn resident(&self) -> Result<u64, SubjectError> {
        self.pids.iter().map(|pid| cpu::resident(*pid)).sum::<Result<_, _>>().map_err(SubjectError::Cpu)
    }

    fn translates(&self) -> bool {
        false
    }

    fn bundles(&self) -> bool {
        false
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input asks it to exit; what does not is killed.
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
