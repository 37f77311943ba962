//! The ring with its requests: what is asked of the kernel, and what becomes of it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::super::outbox::Outbox;
use super::super::provided::GROUP;
use super::super::sockets::Sockets;
use super::super::{IoExtras, Offloads};
use crate::stats::{Counter, WorkerStats};

/// Flags of `io_uring_enter(2)`: wait for completions, and the argument is a structure that holds the time to wait.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;

/// Kinds of requests, in the upper half of their user data; the lower half is a socket or message index.
pub(super) const RECEIVE: u64 = 1;
pub(super) const SEND: u64 = 2;
const WAKE: u64 = 3;
pub(super) const CANCEL: u64 = 4;

/// A receive that has ended.
pub(super) struct Completed {
    pub(super) local: u16,
    pub(super) buffer: u16,
    /// Bytes that the kernel wrote, its header included; 0 when it only gave the buffer back.
    pub(super) len: usize,
}

/// Sending half of [`super::Uring`]; owns the ring, as a flush may find receives completed.
pub struct UringTx {
    pub(super) ring: IoUring,
    /// Each is registered under its index; the eventfd follows after the last one.
    pub(super) sockets: Sockets,
    pub(super) outbox: Outbox,
    /// Template of all receives: says how much room name and control messages get.
    pub(super) template: Box<libc::msghdr>,
    /// Messages of the current flush that the kernel still has.
    pub(super) outstanding: usize,
    /// Completed receives not yet in a batch. Bounded: each holds a provided buffer.
    pub(super) received: VecDeque<Completed>,
    /// Of which files the kernel has a multishot request, by index.
    pub(super) armed: Box<[bool]>,
    /// Files whose request is to be started, or has ended and is to be started again. Room for all.
    pub(super) ended: Vec<u16>,
    /// Handed sockets that were to be closed, and whose request has ended since.
    pub(super) closed: Vec<u16>,
    /// Last drop report of each socket.
    pub(super) drops: Vec<u32>,
    pub(super) offloads: Offloads,
    pub(super) extras: IoExtras,
    pub(super) woken: bool,
    /// Nothing is received: no request is started, whoever has to be opened.
    pub(super) paused: bool,
    /// Completions that the kernel says it lost.
    pub(super) lost: u32,
    pub(super) zero_copy: bool,
    pub(super) sqpoll: bool,
    /// Error of a receive that makes no sense to repeat.
    pub(super) failure: Option<i32>,
    /// Error after which the kernel may still read headers: nothing is sent any more, so that none is written again.
    pub(super) broken: Option<i32>,
    pub(super) stats: Arc<WorkerStats>,
}

impl UringTx {
    /// Whether nothing has gone wrong so far that leaves memory with the kernel.
    pub(super) fn usable(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    /// Sends nothing any more, for this reason.
    pub(super) fn broken_by(&mut self, error: io::Error) -> io::Error {
        self.broken.get_or_insert(error.raw_os_error().unwrap_or(libc::EIO));
        error
    }

    /// Queues a request; makes room by a submission.
    pub(super) fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit()?;
            self.reap();
        }
        // SAFETY: what requests point at (headers of the outbox, template, buffers) is owned by this backend, does
        // not move, and stays until they complete. Headers and slots are written again only after `send_all` has seen every
        // send done; once that failed, `usable` keeps everybody from them. `Drop` waits for all requests, or leaks the memory.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// Starts every multishot request that has ended.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        while let Some(&index) = self.ended.last() {
            let file = Fixed(index.into());
            let entry = if index == self.wake_index() {
                let poll = opcode::PollAdd::new(file, libc::POLLIN as u32).multi(true).build();
                poll.user_data(WAKE << 32)
            } else {
                let receive = opcode::RecvMsgMulti::new(file, &raw const *self.template, GROUP).build();
                receive.user_data(RECEIVE << 32 | u64::from(index))
            };
            // Pushing may find further requests ended.
            self.ended.pop();
            self.armed[usize::from(index)] = true;
            self.push(entry)?;
        }
        Ok(())
    }

    /// Where the eventfd is registered.
    pub(super) fn wake_index(&self) -> u16 {
        self.sockets.places() as u16
    }

    /// Puts a descriptor, or -1 for none, into a slot of the registered files. What the kernel has begun goes on with the former one.
    pub(super) fn register(&self, local: u16, descriptor: RawFd) -> io::Result<()> {
        self.ring.submitter().register_files_update(local.into(), &[descriptor]).map(drop)
    }

    /// Closes the sockets whose last request has ended, and frees their indices.
    pub(super) fn free_closed(&mut self) -> io::Result<()> {
        while let Some(local) = self.closed.pop() {
            self.register(local, -1)?;
            // What still lies there is nobody's, and must not become that of whoever gets the index next.
            for completed in self.received.iter_mut().filter(|completed| completed.local == local) {
                completed.len = 0;
            }
            self.sockets.release(local);
        }
        Ok(())
    }

    /// Hands queued requests to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        let mut refused = 0;
        while !self.ring.submission().is_empty() {
            if self.sqpoll && !self.ring.submission().need_wakeup() {
                // The kernel's thread is at it. What waits for room needs it to have got somewhere.
                if !self.ring.submission().is_full() {
                    return Ok(());
                }
                std::hint::spin_loop();
                continue;
            }
            self.stats.count(Counter::Syscalls);
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if is_passing(&error) && refused < 1000 => {
                    refused += 1;
                    self.reap();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Submits, waits for a completion at most `timeout` (zero: only looks), and takes what there is.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.wait_for(1, timeout)
    }

    /// The same for so many completions.
    pub(super) fn wait_for(&mut self, completions: usize, timeout: Duration) -> io::Result<()> {
        self.stats.count(Counter::Syscalls);
        let result = if timeout.is_zero() {
            // Sees pending completions by the task-run flag.
            self.ring.submit()
        } else {
            let time = Timespec::from(timeout);
            let args = SubmitArgs::new().timespec(&time);
            if self.sqpoll && self.ring.submission().is_empty() {
                // `submit_with_args` wakes the kernel's thread at every wait, and then it never sleeps.
                // SAFETY: nothing is submitted, and `args` with the time that it points at outlives the call.
                unsafe {
                    self.ring.submitter().enter(0, completions as u32, ENTER_GETEVENTS | ENTER_EXT_ARG, Some(&args))
                }
            } else {
                self.ring.submitter().submit_with_args(completions, &args)
            }
        };
        self.reap();
        match result {
            Err(error) if error.raw_os_error() != Some(libc::ETIME) && !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes completions.
    pub(super) fn reap(&mut self) {
        let wake = self.wake_index();
        let Self {
            ring,
            sockets,
            outbox,
            outstanding,
            received,
            ended,
            armed,
            closed,
            woken,
            lost,
            failure,
            stats,
            ..
        } = self;
        let completions = ring.completion();
        let overflow = completions.overflow();
        if overflow != *lost {
            stats.add(Counter::DropRingOverflow, u64::from(overflow.wrapping_sub(std::mem::replace(lost, overflow))));
        }
        for completion in completions {
            let (result, flags) = (completion.result(), completion.flags());
            let index = completion.user_data() as u32 as usize;
            match completion.user_data() >> 32 {
                RECEIVE => {
                    if let Some(buffer) = cqueue::buffer_select(flags) {
                        received.push_back(Completed { local: index as u16, buffer, len: result.max(0) as usize });
                    }
                    if cqueue::more(flags) {
                        continue;
                    }
                    armed[index] = false;
                    if sockets.is_closing(index) {
                        closed.push(index as u16);
                        continue;
                    }
                    match -result {
                        // Whoever uses a handed socket notices that nothing comes any more; the others go on.
                        error if makes_no_sense(error) && index >= sockets.shared() => {
                            tracing::error!(
                                socket = index,
                                error,
                                "a relay's own UDP socket cannot be read any more; the relay will time out"
                            );
                            stats.count(Counter::HandedSocketsFailed);
                            continue;
                        }
                        error if makes_no_sense(error) => *failure = Some(error),
                        libc::ENOBUFS => stats.count(Counter::ReceiveBuffersExhausted),
                        _ => {}
                    }
                    ended.push(index as u16);
                }
                SEND => {
                    // A zero-copy send that went out completes once more, when the card is done with the buffer.
                    if !cqueue::more(flags) {
                        *outstanding = outstanding.saturating_sub(1);
                    }
                    match result {
                        _ if cqueue::notif(flags) => {}
                        0.. => outbox.sent(index),
                        _ => outbox.refused(index, -result, sockets.get(outbox.local(index))),
                    }
                }
                WAKE => {
                    *woken |= result > 0;
                    if !cqueue::more(flags) {
                        armed[usize::from(wake)] = false;
                        ended.push(wake);
                    }
                }
                _ => {}
            }
        }
    }

    /// Ends all requests; false when the kernel still has some after a while.
    pub(super) fn cancel(&mut self) -> bool {
        let _ = self.submit();
        if self.sqpoll {
            // The requests are those of the kernel's thread, which has to cancel them itself.
            let _ = self.push(opcode::AsyncCancel2::new(CancelBuilder::any()).build());
        } else {
            let limit = Timespec::from(Duration::from_millis(100));
            let _ = self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
        }
        for _ in 0..20 {
            self.reap();
            if self.outstanding == 0 && !self.armed.contains(&true) {
                return true;
            }
            let _ = self.wait(Duration::from_millis(10));
        }
        false
    }
}

/// Errors of io_uring_enter that go away by themselves or by taking completions.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// Errors of a receive that come again if it is repeated.
fn makes_no_sense(error: i32) -> bool {
    matches!(error, libc::EINVAL | libc::EBADF | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT)
}
