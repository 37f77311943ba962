//! The bridge's end of a keeper's channels: what waits for the keeper, and one channel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};

use super::frame::{MAX_FRAME, Partial, ToKeeper};
use super::{WAITING, WAITING_DATAGRAMS, WAITING_OF_OTHERS};
use crate::channel::counters::{ChannelCounters, Counted};
use crate::channel::data::MAX_SCTP_MESSAGE;
use crate::channel::secured::{Backlog, Written};

/// Bytes that wait for the keeper, of all its channels.
const FOR_THE_KEEPER: Backlog = Backlog { of_others: WAITING_OF_OTHERS, all: WAITING };

/// Which keeper of a bridge, in all processes that are this bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeeperNumber(pub u32);

/// What another process needs of the connection to a keeper, beside its socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedKeeper {
    /// Which one.
    pub number: KeeperNumber,
    /// Frames that wait.
    pub waiting: Vec<Vec<u8>>,
    /// A message of it that is not whole yet.
    pub partial: Partial,
}

impl CarriedKeeper {
    /// Whether a bridge can have written this.
    pub fn is_plausible(&self) -> bool {
        let most = WAITING + MAX_SCTP_MESSAGE + 2 * MAX_FRAME;
        self.waiting.iter().map(Vec::len).sum::<usize>() <= most
            && self.waiting.iter().all(|f| ToKeeper::parse(f).is_ok())
    }
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// What waits for one keeper; shared by the bridge's ends of its channels and by whoever writes to the socket.
#[derive(Debug, Clone, Default)]
pub struct KeeperLine(Arc<Mutex<Queue>>);

impl KeeperLine {
    /// Goes on with what waited in another process.
    pub fn with_waiting(frames: &[Vec<u8>]) -> Self {
        let line = Self::default();
        frames.iter().for_each(|frame| line.push(frame.clone()));
        line
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        // Only this file locks it, and does not panic.
        self.0.lock().ok().map(|mut queue| act(&mut queue))
    }

    fn bytes(&self) -> usize {
        self.with(|queue| queue.bytes).unwrap_or(0)
    }

    fn push(&self, frame: Vec<u8>) {
        self.with(|queue| {
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
        });
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        self.bytes() > 0
    }

    /// What waits, for another process.
    pub fn waiting(&self) -> Vec<Vec<u8>> {
        self.with(|queue| queue.frames.iter().cloned().collect()).unwrap_or_default()
    }

    /// Gives the frames to `send`, in order, until it takes no more.
    pub fn flush<E>(&self, mut send: impl FnMut(&[u8]) -> Result<bool, E>) -> Result<(), E> {
        self.with(|queue| {
            while let Some(frame) = queue.frames.front() {
                if !send(frame)? {
                    break;
                }
                queue.bytes -= frame.len();
                queue.frames.pop_front();
            }
            Ok(())
        })
        .unwrap_or(Ok(()))
    }
}

/// One channel whose DTLS session a keeper has. When it is dropped the keeper forgets the session.
#[derive(Debug)]
pub struct KeptChannel {
    line: KeeperLine,
    keeper: KeeperNumber,
    session: u32,
    open: bool,
    /// The keeper has forgotten it already, or is gone.
    ended: bool,
    counters: Arc<ChannelCounters>,
}

impl KeptChannel {
    /// Of a session that is called so; `open`: messages can be sent.
    pub fn new(
        (keeper, line): (KeeperNumber, KeeperLine),
        session: u32,
        open: bool,
        counters: Arc<ChannelCounters>,
    ) -> Self {
        Self { line, keeper, session, open, ended: false, counters }
    }

    /// Which keeper has it.
    pub fn keeper(&self) -> KeeperNumber {
        self.keeper
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The keeper says that it is open, or closed.
    pub fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// The keeper has forgotten it, or is gone: whether it was open.
    pub fn end(mut self) -> bool {
        self.ended = true;
        self.open
    }

    /// A datagram of the peer.
    pub fn handle_datagram(&mut self, datagram: &[u8]) {
        match ToKeeper::datagram(self.session, datagram) {
            Some(frame) if self.line.bytes() < WAITING_DATAGRAMS => self.line.push(frame),
            _ => self.counters.count(Counted::KeeperBusy),
        }
    }

    /// Writes a message, and counts it where that fails; one `of_others` gives way first.
    pub fn write(&mut self, of_others: bool, text: impl FnOnce() -> Utf8Bytes) -> Written {
        if !self.open {
            return Written::NotSent;
        }
        if let Some(refused) = FOR_THE_KEEPER.refuses(self.line.bytes(), of_others, &self.counters) {
            if refused == Written::Stalled {
                self.close();
            }
            return refused;
        }
        let text = text();
        if text.len() > MAX_SCTP_MESSAGE {
            self.counters.count(Counted::Oversized);
            return Written::NotSent;
        }
        ToKeeper::text(self.session, of_others, text.as_bytes()).into_iter().for_each(|frame| self.line.push(frame));
        Written::Sent
    }

    /// Closes the channel.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.line.push(ToKeeper::close(self.session));
        }
    }
}

impl Drop for KeptChannel {
    fn drop(&mut self) {
        if !self.ended {
            self.line.push(ToKeeper::drop(self.session));
        }
    }
}
