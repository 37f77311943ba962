//! The only way in and out of a worker's thread: one ring of commands and one of events, never a lock.
//!
//! Both are wait-free SPSC rings (`rtrb`) with an eventfd for wake-up. A full command ring pushes back on the
//! control plane, which retries in order; a full event ring makes the worker coalesce or count, never wait.

mod wakeup;

use std::os::fd::{AsRawFd, RawFd};

use crate::ids::WorkerId;
use crate::io::{EventFd, IoError};
use crate::messages::{Command, Event};

pub use wakeup::Wakeup;

/// Makes both ends of the rings of one worker; the capacities are entries.
pub fn links(
    worker: WorkerId,
    command_capacity: usize,
    event_capacity: usize,
) -> Result<(WorkerLink, ControlLink), IoError> {
    let (command_tx, command_rx) = rtrb::RingBuffer::new(command_capacity);
    let (event_tx, event_rx) = rtrb::RingBuffer::new(event_capacity);
    let (wakeup, event_wakeup) = (Wakeup::new()?, Wakeup::new()?);
    let control = ControlLink {
        commands: command_rx,
        wakeup: wakeup.clone(),
        events: event_tx,
        event_wakeup: event_wakeup.clone(),
    };
    Ok((WorkerLink { worker, commands: command_tx, wakeup, events: event_rx, event_wakeup }, control))
}

/// The control plane's end of one worker's rings.
#[derive(Debug)]
pub struct WorkerLink {
    worker: WorkerId,
    commands: rtrb::Producer<Command>,
    wakeup: Wakeup,
    events: rtrb::Consumer<Event>,
    event_wakeup: Wakeup,
}

impl WorkerLink {
    /// The worker; [`crate::demux::ufrag_prefix`] takes it.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Queues a command and wakes the worker. A full ring hands the command back:
    /// keep it, and all later commands behind it, and try again when the worker has had a moment (1 ms).
    #[allow(clippy::result_large_err)]
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        match self.commands.push(command) {
            Ok(()) => {
                self.wakeup.wake();
                Ok(())
            }
            Err(rtrb::PushError::Full(command)) => {
                self.wakeup.wake();
                Err(command)
            }
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop().ok()
    }

    /// Readable when events may be waiting: wrap it in tokio's `AsyncFd`. On readiness call
    /// [`Self::clear_wakeup`] first, then [`Self::poll_event`] until it is empty.
    pub fn event_fd(&self) -> RawFd {
        self.event_wakeup.event_fd().as_raw_fd()
    }

    /// A clone of the same descriptor that can be moved into an `AsyncFd`.
    pub fn event_wakeup(&self) -> EventFd {
        self.event_wakeup.event_fd().clone()
    }

    /// Takes the wake-up back; the next event raises it again.
    pub fn clear_wakeup(&mut self) {
        self.event_wakeup.event_fd().drain();
        self.event_wakeup.clear();
    }

    /// Whether the worker's end is gone: its thread has ended.
    pub fn is_closed(&self) -> bool {
        self.commands.is_abandoned()
    }
}

/// The worker's end of its rings.
#[derive(Debug)]
pub struct ControlLink {
    commands: rtrb::Consumer<Command>,
    wakeup: Wakeup,
    events: rtrb::Producer<Event>,
    event_wakeup: Wakeup,
}

impl ControlLink {
    /// The next command, oldest first.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop().ok()
    }

    /// Whether any waits.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Queues an event and wakes the control plane; hands it back when the ring is full.
    #[allow(clippy::result_large_err)]
    pub fn send(&mut self, event: Event) -> Result<(), Event> {
        match self.events.push(event) {
            Ok(()) => {
                self.event_wakeup.wake();
                Ok(())
            }
            Err(rtrb::PushError::Full(event)) => Err(event),
        }
    }

    /// Free entries of the event ring.
    pub fn event_slots(&self) -> usize {
        self.events.slots()
    }

    /// What wakes the worker; peers and the control plane share it.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Whether the control plane has dropped its end.
    pub fn is_closed(&self) -> bool {
        self.commands.is_abandoned()
    }
}
