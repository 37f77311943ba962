//! The former process as a keeper: a loop around its socket. It ends with its last session, or with the bridge.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::frame::MAX_FRAME;
use super::machine::Keeper;
use super::socket::{receive, send};
use crate::channel::counters::ChannelCounters;
use crate::channel::secured::SecuredChannel;

/// Longest sleep where there is nothing to wait for but the bridge.
const SLEEP: Duration = Duration::from_secs(60);
/// Frames read in a row, before the bridge is answered.
const BATCH: usize = 64;

/// Sessions that stay with this process, and the socket to the bridge that goes on without it.
#[derive(Debug)]
pub struct KeptSessions {
    socket: OwnedFd,
    sessions: Vec<(u32, SecuredChannel)>,
    counters: Arc<ChannelCounters>,
}

/// Why a keeper ends.
#[derive(Debug)]
enum End {
    Done,
    BridgeGone,
    Broken(String),
}

impl KeptSessions {
    /// Over this socket.
    pub fn new(socket: OwnedFd, sessions: Vec<(u32, SecuredChannel)>, counters: Arc<ChannelCounters>) -> Self {
        Self { socket, sessions, counters }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Serves them until the last one is closed, or the bridge is gone. Blocks.
    pub fn serve(self) {
        let Self { socket, sessions, counters } = self;
        let begun = Instant::now();
        tracing::info!(
            channels = sessions.len(),
            "this process stays as the end of data channels until their participants leave; everything else is the new one's"
        );
        let mut keeper = Keeper::new(begun, sessions, counters);
        let end = run(&mut keeper, &socket);
        let seconds = begun.elapsed().as_secs();
        match end {
            End::Done => tracing::info!(seconds, "the last data channel of this process is closed; it ends"),
            End::BridgeGone => tracing::info!(
                seconds,
                channels = keeper.len(),
                "the bridge has ended; its keeper of data channels ends too"
            ),
            End::Broken(error) => {
                tracing::error!(seconds, channels = keeper.len(), %error, "the keeper of data channels ends, and they are lost");
            }
        }
    }
}

fn run(keeper: &mut Keeper, socket: &OwnedFd) -> End {
    let mut buffer = [0; MAX_FRAME + 1];
    loop {
        keeper.handle_timeout(Instant::now());
        while let Some(frame) = keeper.peek_output() {
            match send(socket, frame) {
                Ok(true) => keeper.pop_output(),
                Ok(false) => break,
                Err(_) => return End::BridgeGone,
            }
        }
        if keeper.is_empty() && keeper.peek_output().is_none() {
            return End::Done;
        }
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, keeper.is_ready());
        wanted.set(PollFlags::OUT, keeper.peek_output().is_some());
        let until = keeper.poll_timeout().map_or(SLEEP, |at| at.saturating_duration_since(Instant::now()).min(SLEEP));
        let timeout = Timespec { tv_sec: until.as_secs() as i64, tv_nsec: i64::from(until.subsec_nanos()) };
        match poll(&mut [PollFd::new(socket, wanted)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return End::Broken(error.to_string()),
        }
        for _ in 0..BATCH {
            if !keeper.is_ready() {
                break;
            }
            match receive(socket, &mut buffer) {
                Ok(None) => break,
                Ok(Some([])) => return End::BridgeGone,
                Ok(Some(frame)) => {
                    if let Err(error) = keeper.handle(Instant::now(), frame) {
                        return End::Broken(error.to_string());
                    }
                }
                Err(error) => return End::Broken(error.to_string()),
            }
        }
    }
}
