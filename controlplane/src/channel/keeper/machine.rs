//! The keeper as a state machine: frames of the bridge and the time in, frames for it out. No I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;

use super::frame::{Assembly, FrameError, FromKeeper, ToKeeper};
use super::{WAITING, WAITING_DATAGRAMS};
use crate::channel::counters::{ChannelCounters, Counted};
use crate::channel::data::MAX_SCTP_MESSAGE;
use crate::channel::secured::{SecuredChannel, SecuredOutput, Written};
use crate::transport::DtlsError;

/// How often the bridge is sent what was counted.
const COUNTS: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Session {
    channel: SecuredChannel,
    timer: Option<Instant>,
    /// The channel is being closed, since the peer does not read.
    stalled: bool,
}

/// The sessions that stayed behind when another process took over.
#[derive(Debug)]
pub struct Keeper {
    sessions: BTreeMap<u32, Session>,
    timers: BTreeSet<(Instant, u32)>,
    assembly: Assembly,
    outputs: VecDeque<Vec<u8>>,
    /// Of the outputs.
    bytes: usize,
    counters: Arc<ChannelCounters>,
    /// What the bridge knows of them.
    reported: Vec<u64>,
    report: Instant,
}

impl Keeper {
    /// With these sessions, by the names that the bridge has for them; they count in `counters`, which the bridge knows as they are.
    pub fn new(
        now: Instant,
        sessions: impl IntoIterator<Item = (u32, SecuredChannel)>,
        counters: Arc<ChannelCounters>,
    ) -> Self {
        let session = |channel| Session { channel, timer: None, stalled: false };
        let mut keeper = Self {
            sessions: sessions.into_iter().map(|(id, channel)| (id, session(channel))).collect(),
            timers: BTreeSet::new(),
            assembly: Assembly::new(MAX_SCTP_MESSAGE),
            outputs: VecDeque::new(),
            bytes: 0,
            reported: counters.all(),
            counters,
            report: now,
        };
        let ids: Vec<u32> = keeper.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| keeper.drain(id));
        keeper
    }

    /// Sessions now. Without any there is nothing left to be done but to say what is to be said.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether frames may be handled; else the bridge has to read first.
    pub fn is_ready(&self) -> bool {
        self.bytes < WAITING_DATAGRAMS
    }

    /// Takes a frame of the bridge.
    pub fn handle(&mut self, now: Instant, frame: &[u8]) -> Result<(), FrameError> {
        let (id, said) = ToKeeper::parse(frame)?;
        let text = match said {
            ToKeeper::Text { of_others, last, piece } => match self.assembly.add(id, (of_others, last), piece)? {
                Some((of_others, text)) => {
                    Some((of_others, Utf8Bytes::try_from(text).map_err(|_| FrameError::Pieces(id))?))
                }
                None => return Ok(()),
            },
            ToKeeper::Drop => {
                self.forget(id);
                return Ok(());
            }
            ToKeeper::Datagram(datagram) => {
                match self.sessions.get_mut(&id) {
                    Some(session) => session.channel.handle_datagram(now, &datagram),
                    None => self.push(FromKeeper::ended(id, false, "the former process does not have the session")),
                }
                self.drain(id);
                return Ok(());
            }
            ToKeeper::Close => None,
        };
        // A channel that ended meanwhile: the bridge has not read that yet.
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        match text {
            Some((of_others, text)) => {
                session.stalled |= session.channel.write(of_others, || text) == Written::Stalled;
            }
            None => session.channel.close_channel(),
        }
        session.channel.handle_timeout(now);
        self.drain(id);
        Ok(())
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Each once: a session that is still not content has to wait for the next call.
        let due: Vec<u32> = self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in due {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.channel.handle_timeout(now);
            }
            self.drain(id);
        }
        if self.report <= now {
            self.report = now + COUNTS;
            self.report_counts();
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let unreported = self.counters.all() != self.reported;
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(unreported.then_some(self.report)).min()
    }

    /// The next frame for the bridge.
    pub fn peek_output(&self) -> Option<&[u8]> {
        self.outputs.front().map(Vec::as_slice)
    }

    /// It was sent.
    pub fn pop_output(&mut self) {
        if let Some(frame) = self.outputs.pop_front() {
            self.bytes -= frame.len();
        }
    }

    /// Bytes for the bridge that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.bytes
    }

    /// What was taken out was not sent.
    #[cfg(test)]
    pub fn put_back(&mut self, frame: Vec<u8>) {
        self.push(frame);
    }

    fn report_counts(&mut self) {
        let all = self.counters.all();
        for (which, (now, before)) in (0u8..).zip(all.iter().zip(&self.reported)) {
            let times = u32::try_from(now.saturating_sub(*before)).unwrap_or(u32::MAX);
            if times > 0 {
                let frame = FromKeeper::counted(which, times);
                self.bytes += frame.len();
                self.outputs.push_back(frame);
            }
        }
        self.reported = all;
    }

    fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.outputs.push_back(frame);
    }

    fn forget(&mut self, id: u32) {
        if let Some(Session { timer: Some(at), .. }) = self.sessions.remove(&id) {
            self.timers.remove(&(at, id));
        }
    }

    /// Passes on what a session wants done.
    fn drain(&mut self, id: u32) {
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let Some(output) = session.channel.poll_output() else { break };
            match output {
                SecuredOutput::Datagram(datagram) => match FromKeeper::datagram(id, &datagram) {
                    // SCTP sends again what is lost.
                    Some(frame) if self.bytes < WAITING => self.push(frame),
                    _ => self.counters.count(Counted::KeeperBusy),
                },
                SecuredOutput::Opened => self.push(FromKeeper::opened(id)),
                SecuredOutput::Text(text) => {
                    FromKeeper::text(id, &text).into_iter().for_each(|frame| self.push(frame));
                }
                SecuredOutput::Closed => {
                    let stalled = std::mem::take(&mut session.stalled);
                    self.push(FromKeeper::closed(id, stalled));
                }
                // Only sessions that had them before stay behind.
                SecuredOutput::Keys(_) => {}
                SecuredOutput::Failed(error) => {
                    self.push(match error {
                        DtlsError::Closed => FromKeeper::ended(id, true, ""),
                        DtlsError::Protocol(reason) => FromKeeper::ended(id, false, &reason),
                        other => FromKeeper::ended(id, false, &other.to_string()),
                    });
                    return self.forget(id);
                }
            }
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let next = session.channel.poll_timeout();
        let former = std::mem::replace(&mut session.timer, next);
        if former != next {
            if let Some(at) = former {
                self.timers.remove(&(at, id));
            }
            self.timers.extend(next.map(|at| (at, id)));
        }
    }
}
