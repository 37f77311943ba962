//! The backend of io_uring: multishot receives into provided buffers, batched sends, one system call per turn and
//! direction.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::address::{NAME_LEN, decode};
use super::affinity::off_these_cores;
use super::offload::{self, CONTROL_LEN};
use super::outbox::Outbox;
use super::provided::{BufferRing, GROUP};
use super::rx::RxBatch;
use super::slab::Slab;
use super::sockets::Sockets;
use super::{
    EventFd, Flush, HandedSocket, IoError, IoExtras, IoLimits, Offloads, PacketIo, PacketSink, Path, SocketDuplicate,
    SocketPool,
};
use crate::stats::{Counter, WorkerStats};

/// Submission entries; more messages than this go in several submissions.
const SUBMISSIONS: u32 = 512;
/// Milliseconds without submissions after which the kernel's polling thread sleeps.
const SQPOLL_IDLE: u32 = 10;
/// Flags of `io_uring_enter(2)`: wait for completions, and the argument is a structure that holds the time to wait.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
/// Looks at the completions of sends, with SQPOLL, before the worker waits for them.
const SQPOLL_SPINS: u32 = 10_000;
/// How often, and how long each time, a socket that finds no free index waits for one that is being closed.
const CLOSING_WAITS: u32 = 4;
const CLOSING_WAIT: Duration = Duration::from_micros(500);
/// Where the payload starts in a provided buffer: after the kernel's header, name and control messages.
const PAYLOAD_OFFSET: usize = 16 + NAME_LEN + CONTROL_LEN;

/// Kinds of requests, in the upper half of their user data; the lower half is a socket or message index.
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const WAKE: u64 = 3;
const CANCEL: u64 = 4;

/// io_uring over one worker's sockets. Belongs to the thread that made it.
pub struct Uring {
    /// Not dropped, but leaked, when the kernel does not let go of the buffers.
    inner: ManuallyDrop<Inner>,
}

/// The ring is in the first field, so that it is dropped before the memory that its requests point at.
struct Inner {
    tx: UringTx,
    buffers: BufferRing,
    rx: RxBatch,
    /// Buffers of the current batch, lent again when it is forgotten.
    in_batch: Vec<u16>,
    batch: usize,
    wake: EventFd,
    offloads: Offloads,
    stats: Arc<WorkerStats>,
}

/// Sending half of [`Uring`]; owns the ring, as a flush may find receives completed.
pub struct UringTx {
    ring: IoUring,
    /// Each is registered under its index; the eventfd follows after the last one.
    sockets: Sockets,
    outbox: Outbox,
    /// Template of all receives: says how much room name and control messages get.
    template: Box<libc::msghdr>,
    /// Messages of the current flush that the kernel still has.
    outstanding: usize,
    /// Completed receives not yet in a batch. Bounded: each holds a provided buffer.
    received: VecDeque<Completed>,
    /// Of which files the kernel has a multishot request, by index.
    armed: Box<[bool]>,
    /// Files whose request is to be started, or has ended and is to be started again. Room for all.
    ended: Vec<u16>,
    /// Handed sockets that were to be closed, and whose request has ended since.
    closed: Vec<u16>,
    /// Last drop report of each socket.
    drops: Vec<u32>,
    offloads: Offloads,
    extras: IoExtras,
    woken: bool,
    /// Nothing is received: no request is started, whoever has to be opened.
    paused: bool,
    /// Completions that the kernel says it lost.
    lost: u32,
    zero_copy: bool,
    sqpoll: bool,
    /// Error of a receive that makes no sense to repeat.
    failure: Option<i32>,
    /// Error after which the kernel may still read headers: nothing is sent any more, so that none is written again.
    broken: Option<i32>,
    stats: Arc<WorkerStats>,
}

struct Completed {
    local: u16,
    buffer: u16,
    /// Bytes that the kernel wrote, its header included; 0 when it only gave the buffer back.
    len: usize,
}

impl Uring {
    /// Takes over the sockets of one worker; call it on the worker's thread. `wake` ends a wait.
    pub fn new(
        sockets: Vec<UdpSocket>,
        wake: EventFd,
        limits: IoLimits,
        stats: Arc<WorkerStats>,
    ) -> Result<Self, IoError> {
        let mut this = Self::idle(sockets, wake, limits, stats, None)?;
        let tx = &mut this.inner.tx;
        let started = tx.arm().and_then(|()| tx.submit());
        started.map_err(|source| IoError::Uring { step: "submitting the first receives", source })?;
        Ok(this)
    }

    /// The same where the sockets are those of another process, which may have to go on with them; `gro` is whether it used GRO.
    /// Nothing is received before the first [`PacketIo::receive`].
    pub fn taking_over(
        sockets: Vec<UdpSocket>,
        wake: EventFd,
        limits: IoLimits,
        stats: Arc<WorkerStats>,
        gro: bool,
    ) -> Result<Self, IoError> {
        Self::idle(sockets, wake, limits, stats, Some(gro))
    }

    fn idle(
        sockets: Vec<UdpSocket>,
        wake: EventFd,
        limits: IoLimits,
        stats: Arc<WorkerStats>,
        gro: Option<bool>,
    ) -> Result<Self, IoError> {
        for (name, value) in [("batch", limits.batch), ("rx_buffers", limits.rx_buffers)] {
            if !(1..=32_768).contains(&value) {
                return Err(IoError::Limit { name, value, min: 1, max: 32_768 });
            }
        }
        for socket in &sockets {
            // io_uring fails requests of non-blocking files at once instead of waiting for data.
            socket.set_nonblocking(false).map_err(|source| IoError::Allocate { what: "a blocking socket", source })?;
        }
        let buffers = limits.rx_buffers.next_power_of_two();
        limits.extras.poll_busily(&sockets)?;
        let offloads = offload::of(&sockets, gro, limits.offload);
        let sockets = Sockets::new(sockets, limits.handed_sockets)?;
        let ring = build_ring(buffers + sockets.places(), limits.extras.sqpoll)?;
        limits.extras.poll_ring_busily(ring.as_raw_fd())?;
        // Places of sockets that are handed over later are empty.
        let descriptor = |local| sockets.get(local).map_or(-1, AsRawFd::as_raw_fd);
        let fds: Vec<_> = (0..sockets.places()).map(descriptor).chain([wake.as_raw_fd()]).collect();
        let registered = ring.submitter().register_files(&fds);
        registered.map_err(|source| IoError::Uring { step: "registering sockets", source })?;
        let slab = Slab::new(buffers, offload::buffer_len(offloads.gro), "the receive buffers")?;
        let buffer_ring = BufferRing::register(&ring, &slab)?;
        // SAFETY: msghdr is integers and pointers; all zeroes is a value of it (an empty message).
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME_LEN as u32;
        template.msg_controllen = CONTROL_LEN as _;
        let batch = limits.batch.min(buffers);
        let mut inner = Inner {
            in_batch: Vec::with_capacity(batch),
            batch,
            rx: RxBatch::new(slab, batch, stats.clone()),
            buffers: buffer_ring,
            tx: UringTx {
                ring,
                outbox: Outbox::new(&limits, sockets.places(), offloads.gso, stats.clone())?,
                template,
                outstanding: 0,
                received: VecDeque::with_capacity(buffers),
                armed: vec![false; fds.len()].into(),
                ended: Vec::with_capacity(fds.len()),
                closed: Vec::with_capacity(fds.len()),
                drops: vec![0; sockets.places()],
                offloads,
                extras: limits.extras,
                woken: false,
                paused: gro.is_some(),
                lost: 0,
                zero_copy: limits.extras.zero_copy,
                sqpoll: limits.extras.sqpoll,
                failure: None,
                broken: None,
                stats: stats.clone(),
                sockets,
            },
            wake,
            offloads,
            stats,
        };
        let (shared, wake) = (inner.tx.sockets.shared() as u16, inner.tx.wake_index());
        inner.tx.ended.extend((0..shared).chain([wake]));
        Ok(Self { inner: ManuallyDrop::new(inner) })
    }
}

/// A ring with the cheapest completion mode that this kernel has.
fn build_ring(receives: usize, sqpoll: bool) -> Result<IoUring, IoError> {
    // Every lent buffer, every receive that ends without one, and every submission can complete at once: the completion queue never
    // overflows.
    let completions = (receives as u32 + SUBMISSIONS + 128).next_power_of_two();
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(completions).setup_submit_all();
    if sqpoll {
        // The kernel's thread runs what the other modes have the worker run; on the worker's core it would be in its way.
        builder.setup_single_issuer().setup_sqpoll(SQPOLL_IDLE);
        let built = off_these_cores(|| builder.build(SUBMISSIONS));
        return built.map_err(|source| IoError::Uring { step: "creating a ring with SQPOLL", source });
    }
    builder.setup_coop_taskrun().setup_taskrun_flag();
    let coop = builder.clone();
    match builder.setup_single_issuer().setup_defer_taskrun().build(SUBMISSIONS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => coop.build(SUBMISSIONS),
        result => result,
    }
    .map_err(|source| IoError::Uring { step: "creating a ring", source })
}

impl PacketIo for Uring {
    type Tx = UringTx;

    fn receive(&mut self, timeout: Duration) -> io::Result<usize> {
        self.inner.tx.usable()?;
        let received = self.inner.receive(timeout);
        received.map_err(|error| self.inner.tx.broken_by(error))
    }

    fn coalesce(&mut self, time: Duration) -> io::Result<()> {
        self.inner.tx.usable()?;
        let waited = self.inner.coalesce(time);
        waited.map_err(|error| self.inner.tx.broken_by(error))
    }

    fn pause(&mut self) -> io::Result<()> {
        self.inner.tx.usable()?;
        // What it ends is armed again by the next `receive`.
        self.inner.tx.paused = true;
        if self.inner.tx.cancel() { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    fn take_completed(&mut self) -> io::Result<usize> {
        loop {
            self.inner.forget_batch();
            self.inner.tx.reap();
            self.inner.take_received();
            // A batch may hold nothing but what is dropped: more may lie behind it.
            if !self.inner.rx.is_empty() || self.inner.tx.received.is_empty() {
                return Ok(self.inner.rx.len());
            }
        }
    }

    fn resume(&mut self) -> io::Result<()> {
        self.inner.tx.paused = false;
        self.inner.tx.sockets.open().try_for_each(|(_, socket)| socket.set_nonblocking(false))
    }

    fn duplicates(&self) -> io::Result<Vec<SocketDuplicate>> {
        self.inner.tx.sockets.duplicates(&self.inner.tx.drops)
    }

    fn count_drops_from(&mut self, local: u16, drops: u32) {
        if let Some(known) = self.inner.tx.drops.get_mut(usize::from(local)) {
            *known = drops;
        }
    }

    fn parts(&mut self) -> (&mut RxBatch, &mut UringTx) {
        let inner = &mut *self.inner;
        (&mut inner.rx, &mut inner.tx)
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads
    }
}

impl Inner {
    /// See [`PacketIo::receive`].
    fn receive(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = timeout.min(Duration::from_secs(86_400));
        self.forget_batch();
        self.tx.reap();
        self.tx.free_closed()?;
        // Requests end for want of buffers; now there are some. They are armed even if there is no need to wait.
        self.tx.arm()?;
        let mut deadline = None;
        while self.tx.received.is_empty() && !self.tx.woken && self.tx.failure.is_none() {
            let left = match deadline {
                None if timeout.is_zero() => Duration::ZERO,
                None => {
                    deadline = Instant::now().checked_add(timeout);
                    timeout
                }
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            self.tx.wait(left)?;
            if left.is_zero() {
                break;
            }
            if self.tx.received.is_empty() {
                self.tx.arm()?;
            }
        }
        self.tx.submit()?;
        if std::mem::take(&mut self.tx.woken) {
            self.wake.drain();
        }
        if let Some(error) = self.tx.failure.take() {
            return Err(io::Error::from_raw_os_error(error));
        }
        self.take_received();
        Ok(self.rx.len())
    }

    /// See [`PacketIo::coalesce`].
    fn coalesce(&mut self, time: Duration) -> io::Result<()> {
        self.forget_batch();
        self.tx.reap();
        self.tx.arm()?;
        let missing = self.batch.saturating_sub(self.tx.received.len());
        if missing == 0 || time.is_zero() || self.tx.woken || self.tx.failure.is_some() {
            return Ok(());
        }
        // One wait for as many completions as make a batch: until then the kernel does not wake this thread.
        self.tx.wait_for(missing, time)
    }

    fn forget_batch(&mut self) {
        self.rx.clear();
        if !self.in_batch.is_empty() {
            self.in_batch.drain(..).for_each(|buffer| self.buffers.lend(self.rx.slab(), buffer));
            self.buffers.publish();
        }
    }

    /// Moves completed receives into the batch.
    fn take_received(&mut self) {
        let any_closing = self.tx.sockets.any_closing();
        while self.in_batch.len() < self.batch {
            let Some(Completed { local, buffer, mut len }) = self.tx.received.pop_front() else { break };
            let came = len > 0;
            if any_closing && self.tx.sockets.is_closing(local.into()) {
                len = 0;
            }
            self.in_batch.push(buffer);
            // SAFETY: the kernel gave this buffer back with the completion and gets it again in `forget_batch`.
            let bytes = unsafe { self.rx.head(usize::from(buffer), len) };
            let Ok(message) = RecvMsgOut::parse(bytes, &self.tx.template) else {
                // Of a socket that is being closed, and so of nobody.
                self.stats.add(Counter::DropUnknownAddress, u64::from(came));
                continue;
            };
            let ancillary = offload::parse_control(message.control_data());
            if let Some(drops) = ancillary.drops {
                let lost = drops.wrapping_sub(std::mem::replace(&mut self.tx.drops[usize::from(local)], drops));
                self.stats.add(Counter::DropSocketOverflow, u64::from(lost));
            }
            let Some(remote) = decode(message.name_data()) else {
                self.stats.count(Counter::DropUnknownAddress);
                continue;
            };
            let (payload, truncated) = (message.payload_data().len(), message.is_payload_truncated());
            let path = Path { local, remote };
            let bytes = PAYLOAD_OFFSET..PAYLOAD_OFFSET + payload;
            self.rx.push(path, usize::from(buffer), bytes, ancillary.segment, truncated);
        }
    }
}

impl PacketSink for UringTx {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.usable().ok()?;
        if self.outbox.is_full() {
            self.flush().ok()?;
        }
        self.outbox.slot()
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.outbox.commit(len, path);
    }
}

impl Flush for UringTx {
    fn flush(&mut self) -> io::Result<()> {
        self.usable()?;
        if self.outbox.is_empty() {
            return Ok(());
        }
        // Headers and slots are the kernel's until every message is done: then, and only then, they are written again.
        self.send_all().map_err(|error| self.broken_by(error))?;
        self.outbox.clear();
        Ok(())
    }
}

impl SocketPool for UringTx {
    fn open(&mut self, socket: HandedSocket) -> Result<u16, IoError> {
        let address = socket.address();
        let failed = |step| move |source| IoError::Socket { address, step, source };
        self.usable().map_err(failed("a ring that is broken"))?;
        for _ in 0..CLOSING_WAITS {
            if self.sockets.next_free().is_ok() || !self.sockets.any_closing() {
                break;
            }
            // The kernel is about to let go of one.
            self.wait(CLOSING_WAIT).and_then(|()| self.free_closed()).map_err(failed("closing others"))?;
        }
        let (local, socket) = (self.sockets.next_free()?, socket.into_socket());
        // Like the others, see `new`.
        socket.set_nonblocking(false).map_err(failed("a blocking socket"))?;
        self.extras.poll_busily(std::slice::from_ref(&*socket))?;
        offload::enable_alike(&socket, self.offloads).map_err(failed("UDP_GRO"))?;
        self.register(local, socket.as_raw_fd()).map_err(failed("registering it with io_uring"))?;
        self.drops[usize::from(local)] = 0;
        self.outbox.set_gso(local, self.offloads.gso);
        self.sockets.insert(local, socket);
        self.ended.push(local);
        if !self.paused {
            let started = self.arm().and_then(|()| self.submit());
            started.map_err(|error| self.broken_by(error)).map_err(failed("its first receive"))?;
        }
        Ok(local)
    }

    fn open_at(&mut self, local: u16, socket: HandedSocket) -> Result<(), IoError> {
        self.sockets.prefer(local)?;
        self.open(socket).map(drop)
    }

    fn close(&mut self, local: u16) -> io::Result<()> {
        self.usable()?;
        // What is queued for it goes out first. All sends are done then.
        self.flush()?;
        if !self.sockets.start_closing(local) {
            return Ok(());
        }
        self.ended.retain(|&ended| ended != local);
        if !self.armed[usize::from(local)] {
            self.closed.push(local);
        } else {
            let receive = RECEIVE << 32 | u64::from(local);
            let cancel = opcode::AsyncCancel::new(receive).build().user_data(CANCEL << 32 | u64::from(local));
            let cancelled = self.push(cancel).and_then(|()| self.submit());
            cancelled.map_err(|error| self.broken_by(error))?;
        }
        // Most likely it has ended at once.
        self.reap();
        self.free_closed().map_err(|error| self.broken_by(error))
    }
}

impl UringTx {
    /// Whether nothing has gone wrong so far that leaves memory with the kernel.
    fn usable(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    /// Sends nothing any more, for this reason.
    fn broken_by(&mut self, error: io::Error) -> io::Error {
        self.broken.get_or_insert(error.raw_os_error().unwrap_or(libc::EIO));
        error
    }

    /// Hands what is queued to the kernel and waits until all of it is done. After an error some may not be.
    fn send_all(&mut self) -> io::Result<()> {
        let messages = self.outbox.prepare();
        let headers = self.outbox.headers();
        for i in 0..messages {
            let local = self.outbox.local(i);
            if self.sockets.get(local).is_none() {
                self.outbox.refused(i, libc::EBADF, None);
                continue;
            }
            let socket = Fixed(local as u32);
            // SAFETY: `i` is below the number of prepared headers.
            let header = unsafe { &raw const (*headers.add(i)).msg_hdr };
            // DONTWAIT completes within the submission; a full socket gives EAGAIN instead of a late datagram.
            let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
            let entry = if self.zero_copy {
                opcode::SendMsgZc::new(socket, header).flags(flags).build()
            } else {
                opcode::SendMsg::new(socket, header).flags(flags).build()
            };
            self.push(entry.user_data(SEND << 32 | i as u64))?;
            self.outstanding += 1;
        }
        self.submit()?;
        self.reap();
        for _ in 0..SQPOLL_SPINS {
            if !self.sqpoll || self.outstanding == 0 {
                break;
            }
            std::hint::spin_loop();
            self.reap();
        }
        while self.outstanding > 0 {
            self.wait(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Queues a request; makes room by a submission.
    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
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
    fn arm(&mut self) -> io::Result<()> {
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
    fn wake_index(&self) -> u16 {
        self.sockets.places() as u16
    }

    /// Puts a descriptor, or -1 for none, into a slot of the registered files. What the kernel has begun goes on with the former one.
    fn register(&self, local: u16, descriptor: RawFd) -> io::Result<()> {
        self.ring.submitter().register_files_update(local.into(), &[descriptor]).map(drop)
    }

    /// Closes the sockets whose last request has ended, and frees their indices.
    fn free_closed(&mut self) -> io::Result<()> {
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
    fn submit(&mut self) -> io::Result<()> {
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
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.wait_for(1, timeout)
    }

    /// The same for so many completions.
    fn wait_for(&mut self, completions: usize, timeout: Duration) -> io::Result<()> {
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
    fn reap(&mut self) {
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
    fn cancel(&mut self) -> bool {
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

impl Drop for Uring {
    fn drop(&mut self) {
        if self.inner.tx.cancel() {
            // SAFETY: dropped once, here; no request points into its memory any more. Otherwise it is leaked.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::{SocketOptions, bind_sockets};
    use super::*;

    /// Puts something that is no ring in the place of a ring's descriptor: every submission fails from now on.
    fn break_ring(tx: &UringTx) {
        let other = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: takes descriptors, both of them open.
        assert!(unsafe { libc::dup2(other.as_raw_fd(), tx.ring.as_raw_fd()) } >= 0);
    }

    fn queue(tx: &mut UringTx, remote: SocketAddr, len: usize) -> bool {
        let free = tx.slot().is_some();
        if free {
            tx.commit(len, Path { local: 0, remote });
        }
        free
    }

    #[test]
    fn after_a_failed_flush_no_header_is_written_again() {
        let stats = Arc::new(WorkerStats::default());
        for extras in ["", "zero-copy", "sqpoll"] {
            let sockets = bind_sockets(&[[127, 0, 0, 1].into()], 0, &SocketOptions::default()).unwrap();
            let remote = sockets[0].local_addr().unwrap();
            let limits = IoLimits { tx_slots: 8, extras: extras.parse().unwrap(), ..IoLimits::default() };
            let mut uring = match Uring::new(sockets, EventFd::new().unwrap(), limits, stats.clone()) {
                Ok(uring) => uring,
                Err(error) => {
                    eprintln!("skipped: {error}");
                    continue;
                }
            };
            let (_, tx) = uring.parts();
            for len in [100, 200, 300] {
                assert!(queue(tx, remote, len));
            }
            break_ring(tx);
            // The thread of SQPOLL may have slept or not: it is woken only in the first case.
            let error = match tx.flush() {
                Err(error) => error,
                Ok(()) => {
                    eprintln!("{extras}: the kernel's thread sent it without a system call");
                    continue;
                }
            };
            let written = tx.outbox.header_bytes();
            for port in 1..=20 {
                assert!(!queue(tx, ([127, 0, 0, 2], port).into(), 50), "{extras}: no slot of a broken backend");
                // Somebody who does not ask for a slot first.
                tx.commit(60, Path { local: 0, remote: ([127, 0, 0, 3], port).into() });
                let again = tx.flush().expect_err("the same error as before");
                assert_eq!(again.raw_os_error(), error.raw_os_error(), "{extras}");
            }
            assert!(tx.outbox.header_bytes() == written, "{extras}: the kernel may still read these headers");
            assert!(uring.receive(Duration::ZERO).is_err(), "{extras}");
        }
    }
}
