//! The backend of io_uring: multishot receives into provided buffers, batched sends, one system call per turn and
//! direction.

mod sending;
mod tx;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::IoUring;
use io_uring::types::RecvMsgOut;

use super::address::{NAME_LEN, decode};
use super::affinity::off_these_cores;
use super::offload::{self, CONTROL_LEN};
use super::outbox::Outbox;
use super::provided::BufferRing;
use super::rx::RxBatch;
use super::slab::Slab;
use super::sockets::Sockets;
use super::{EventFd, IoError, IoLimits, Offloads, PacketIo, Path, SocketDuplicate};
use crate::stats::{Counter, WorkerStats};
use tx::Completed;
pub use tx::UringTx;

/// Submission entries; more messages than this go in several submissions.
const SUBMISSIONS: u32 = 512;
/// Milliseconds without submissions after which the kernel's polling thread sleeps.
const SQPOLL_IDLE: u32 = 10;
/// Where the payload starts in a provided buffer: after the kernel's header, name and control messages.
const PAYLOAD_OFFSET: usize = 16 + NAME_LEN + CONTROL_LEN;

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

    use super::super::{Flush, PacketSink, SocketOptions, bind_sockets};
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
