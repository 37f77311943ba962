//! The backend of `recvmmsg` and `sendmmsg`: one system call per socket and batch, with GSO and GRO.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::address::{NAME_LEN, Name, decode};
use super::offload::{self, CONTROL_LEN, Control};
use super::outbox::{Outbox, errno};
use super::readiness::Readiness;
use super::rx::RxBatch;
use super::slab::Slab;
use super::sockets::Sockets;
use super::{
    EventFd, Flush, HandedSocket, IoError, IoExtras, IoLimits, Offloads, PacketIo, PacketSink, Path, SocketDuplicate,
    SocketPool,
};
use crate::stats::{Counter, WorkerStats};

/// Most messages that the kernel takes in one `sendmmsg`.
const MAX_VECTOR: usize = 1024;

/// `recvmmsg`/`sendmmsg` over one worker's sockets.
pub struct Mmsg {
    rx: RxBatch,
    tx: MmsgTx,
    wake: EventFd,
    /// What `ppoll` waits for: all handed sockets as one, the shared sockets, the eventfd.
    poll: Vec<libc::pollfd>,
    /// Shared socket that is read first, so that a busy one does not starve the others; the handed ones have one turn together.
    turn: usize,
    /// Message `i` receives into buffer `i` of the batch's slab, `names[i]` and `controls[i]`.
    headers: Box<[libc::mmsghdr]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    /// Datagrams were left to come: most likely some lie there, so that there is no need to ask first.
    coalesced: bool,
    /// A wake-up ended that.
    woken: bool,
    offloads: Offloads,
    stats: Arc<WorkerStats>,
}

/// Place of the handed sockets in what is polled, and of the first shared one.
const HANDED: usize = 0;
const SHARED: usize = 1;

/// Sending half of [`Mmsg`].
pub struct MmsgTx {
    sockets: Sockets,
    outbox: Outbox,
    /// Which handed sockets are readable, once there are some.
    readiness: Option<Readiness>,
    /// Last drop report of each socket.
    drops: Vec<u32>,
    offloads: Offloads,
    extras: IoExtras,
}

impl Mmsg {
    /// Takes over the sockets of one worker. `wake` ends a wait.
    pub fn new(
        sockets: Vec<UdpSocket>,
        wake: EventFd,
        limits: IoLimits,
        stats: Arc<WorkerStats>,
    ) -> Result<Self, IoError> {
        Self::with_gro(sockets, wake, limits, stats, None)
    }

    /// The same where the sockets are those of another process, which may have to go on with them; `gro` is whether it used GRO.
    pub fn taking_over(
        sockets: Vec<UdpSocket>,
        wake: EventFd,
        limits: IoLimits,
        stats: Arc<WorkerStats>,
        gro: bool,
    ) -> Result<Self, IoError> {
        Self::with_gro(sockets, wake, limits, stats, Some(gro))
    }

    fn with_gro(
        sockets: Vec<UdpSocket>,
        wake: EventFd,
        limits: IoLimits,
        stats: Arc<WorkerStats>,
        gro: Option<bool>,
    ) -> Result<Self, IoError> {
        let batch = limits.batch;
        if !(1..=MAX_VECTOR).contains(&batch) {
            return Err(IoError::Limit { name: "batch", value: batch, min: 1, max: MAX_VECTOR });
        }
        let shared: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        for socket in &sockets {
            socket
                .set_nonblocking(true)
                .map_err(|source| IoError::Allocate { what: "a non-blocking socket", source })?;
        }
        limits.extras.without_uring()?.poll_busily(&sockets)?;
        let offloads = offload::of(&sockets, gro, limits.offload);
        let slab = Slab::new(batch, offload::buffer_len(offloads.gro), "the receive buffers")?;
        let mut names: Box<[Name]> = vec![Name([0; NAME_LEN]); batch].into();
        let mut controls: Box<[Control]> = vec![Control([0; CONTROL_LEN]); batch].into();
        let mut iovecs: Box<[libc::iovec]> =
            (0..batch).map(|i| libc::iovec { iov_base: slab.pointer(i).cast(), iov_len: slab.stride() }).collect();
        let headers = (0..batch)
            .map(|i| {
                // SAFETY: mmsghdr is integers and pointers; all zeroes is a value of it (an empty message).
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_name = (&raw mut names[i]).cast();
                header.msg_hdr.msg_iov = &raw mut iovecs[i];
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = (&raw mut controls[i]).cast();
                header
            })
            .collect();
        let sockets = Sockets::new(sockets, limits.handed_sockets)?;
        // What has a negative descriptor is not polled.
        let fds = [-1].into_iter().chain(shared).chain([wake.as_raw_fd()]);
        Ok(Self {
            rx: RxBatch::new(slab, batch, stats.clone()),
            poll: fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect(),
            turn: 0,
            headers,
            names,
            controls,
            iovecs,
            coalesced: false,
            woken: false,
            offloads,
            tx: MmsgTx {
                outbox: Outbox::new(&limits, sockets.places(), offloads.gso, stats.clone())?,
                readiness: None,
                drops: vec![0; sockets.places()],
                sockets,
                offloads,
                extras: limits.extras,
            },
            wake,
            stats,
        })
    }

    /// Waits until something from index `first` on is readable; true when it is.
    fn wait(&mut self, first: usize, timeout: Duration) -> io::Result<bool> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(86_400) as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        self.stats.count(Counter::Syscalls);
        self.poll[HANDED].fd = self.tx.readiness.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let poll = &mut self.poll[first..];
        // SAFETY: `poll` holds as many entries as given, all of open descriptors; no signal mask.
        let ready = unsafe { libc::ppoll(poll.as_mut_ptr(), poll.len() as libc::nfds_t, &timeout, std::ptr::null()) };
        match ready {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
                error => Err(error),
            },
            ready => Ok(ready > 0),
        }
    }

    /// Reads one socket into the free buffers from `used` on; returns how many buffers are used then.
    fn read_socket(&mut self, local: usize, used: usize) -> io::Result<usize> {
        let Some(socket) = self.tx.sockets.get(local) else { return Ok(used) };
        let free = &mut self.headers[used..];
        for header in free.iter_mut() {
            header.msg_hdr.msg_namelen = NAME_LEN as u32;
            header.msg_hdr.msg_controllen = CONTROL_LEN as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.stats.count(Counter::Syscalls);
        // SAFETY: the headers point at names, controls, iovecs and buffers of this struct, which do not move and
        // are as long as the headers say; nothing borrows the buffers, as the batch was cleared.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                free.as_mut_ptr(),
                free.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if result < 0 {
            return match errno() {
                // Also errors of datagrams sent earlier, which UDP reports here: nothing was received.
                libc::EAGAIN
                | libc::EINTR
                | libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENOMEM
                | libc::ENOBUFS => Ok(used),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        let now_used = used + result as usize;
        for i in used..now_used {
            let header = &self.headers[i];
            let control_len = header.msg_hdr.msg_controllen.min(CONTROL_LEN as _);
            let ancillary = offload::parse_control(&self.controls[i].0[..control_len]);
            if let Some(drops) = ancillary.drops {
                let lost = drops.wrapping_sub(std::mem::replace(&mut self.tx.drops[local], drops));
                self.stats.add(Counter::DropSocketOverflow, u64::from(lost));
            }
            let Some(remote) = decode(&self.names[i].0[..(header.msg_hdr.msg_namelen as usize).min(NAME_LEN)]) else {
                self.stats.count(Counter::DropUnknownAddress);
                continue;
            };
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let path = Path { local: local as u16, remote };
            let len = (header.msg_len as usize).min(self.iovecs[i].iov_len);
            self.rx.push(path, i, 0..len, ancillary.segment, truncated);
        }
        Ok(now_used)
    }
}

impl Mmsg {
    /// Reads the handed sockets that have something into the free buffers from `used` on, like [`Self::read_socket`].
    fn read_handed(&mut self, mut used: usize) -> io::Result<usize> {
        self.stats.count(Counter::Syscalls);
        let Some(readiness) = &mut self.tx.readiness else { return Ok(used) };
        let readable = readiness.readable()?;
        for i in 0..readable {
            // What finds no buffer is readable next time, too.
            if used >= self.headers.len() {
                break;
            }
            let Some(local) = self.tx.readiness.as_ref().and_then(|readiness| readiness.get(i)) else { break };
            match self.read_socket(usize::from(local), used) {
                Ok(now_used) => used = now_used,
                Err(error) => {
                    // It would be readable for ever. Whoever uses it notices that nothing comes; the others go on.
                    tracing::error!(socket = local, %error, "a relay's own UDP socket cannot be read any more; the relay will time out");
                    self.stats.count(Counter::HandedSocketsFailed);
                    self.tx.unwatch(local);
                }
            }
        }
        Ok(used)
    }
}

impl PacketIo for Mmsg {
    type Tx = MmsgTx;

    fn receive(&mut self, timeout: Duration) -> io::Result<usize> {
        self.rx.clear();
        let sockets = self.tx.sockets.shared();
        let alone = sockets == 1 && self.tx.readiness.is_none();
        if std::mem::take(&mut self.coalesced) && alone && self.read_socket(0, 0)? > 0 {
            self.woken = false;
            return Ok(self.rx.len());
        }
        let timeout = if std::mem::take(&mut self.woken) { Duration::ZERO } else { timeout };
        if !self.wait(0, timeout)? {
            return Ok(0);
        }
        if self.poll[SHARED + sockets].revents != 0 {
            self.wake.drain();
        }
        // Turns are those of the shared sockets, and one of the handed ones.
        self.turn = (self.turn + 1) % (SHARED + sockets);
        let mut used = 0;
        for k in 0..SHARED + sockets {
            let place = (self.turn + k) % (SHARED + sockets);
            if self.poll[place].revents == 0 || used >= self.headers.len() {
                continue;
            }
            used = match place {
                HANDED => self.read_handed(used)?,
                place => self.read_socket(place - SHARED, used)?,
            };
        }
        Ok(self.rx.len())
    }

    fn coalesce(&mut self, time: Duration) -> io::Result<()> {
        self.rx.clear();
        self.coalesced = true;
        if self.wait(SHARED + self.tx.sockets.shared(), time)? {
            self.woken = true;
            self.wake.drain();
        }
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        // Nothing is under way between two calls.
        Ok(())
    }

    fn take_completed(&mut self) -> io::Result<usize> {
        self.rx.clear();
        Ok(0)
    }

    fn resume(&mut self) -> io::Result<()> {
        self.tx.sockets.open().try_for_each(|(_, socket)| socket.set_nonblocking(true))
    }

    fn duplicates(&self) -> io::Result<Vec<SocketDuplicate>> {
        self.tx.sockets.duplicates(&self.tx.drops)
    }

    fn count_drops_from(&mut self, local: u16, drops: u32) {
        if let Some(known) = self.tx.drops.get_mut(usize::from(local)) {
            *known = drops;
        }
    }

    fn parts(&mut self) -> (&mut RxBatch, &mut MmsgTx) {
        (&mut self.rx, &mut self.tx)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }
}

impl SocketPool for MmsgTx {
    fn open(&mut self, socket: HandedSocket) -> Result<u16, IoError> {
        let (address, local) = (socket.address(), self.sockets.next_free()?);
        let failed = |step| move |source| IoError::Socket { address, step, source };
        let socket = socket.into_socket();
        socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
        self.extras.poll_busily(std::slice::from_ref(&*socket))?;
        offload::enable_alike(&socket, self.offloads).map_err(failed("UDP_GRO"))?;
        let readiness = match self.readiness.take() {
            Some(readiness) => readiness,
            None => Readiness::new().map_err(failed("epoll_create1"))?,
        };
        let watched = readiness.watch(&*socket, local);
        if watched.is_ok() || !self.sockets.only_shared() {
            self.readiness = Some(readiness);
        }
        watched.map_err(failed("epoll_ctl"))?;
        self.drops[usize::from(local)] = 0;
        self.outbox.set_gso(local, self.offloads.gso);
        self.sockets.insert(local, socket);
        Ok(local)
    }

    fn close(&mut self, local: u16) -> io::Result<()> {
        self.flush()?;
        self.unwatch(local);
        if self.sockets.start_closing(local) {
            // Nothing is under way: sends are done when the call returns.
            self.sockets.release(local);
        }
        if self.sockets.only_shared() {
            self.readiness = None;
        }
        Ok(())
    }

    fn open_at(&mut self, local: u16, socket: HandedSocket) -> Result<(), IoError> {
        self.sockets.prefer(local)?;
        self.open(socket).map(drop)
    }
}

impl PacketSink for MmsgTx {
    fn slot(&mut self) -> Option<&mut [u8]> {
        if self.outbox.is_full() {
            self.flush().ok()?;
        }
        self.outbox.slot()
    }

    fn commit(&mut self, len: usize, path: Path) {
        self.outbox.commit(len, path);
    }
}

impl Flush for MmsgTx {
    fn flush(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let messages = self.outbox.prepare();
        let mut at = 0;
        while at < messages {
            let local = self.outbox.local(at);
            let end = (at..messages).find(|&i| self.outbox.local(i) != local).unwrap_or(messages);
            at = self.send(local, at, end);
        }
        self.outbox.clear();
        Ok(())
    }
}

impl MmsgTx {
    fn unwatch(&self, local: u16) {
        if let (Some(readiness), Some(socket)) = (&self.readiness, self.sockets.get(usize::from(local))) {
            readiness.unwatch(socket);
        }
    }

    /// Sends messages `at..end`, all of one socket; returns `end`.
    fn send(&mut self, local: usize, mut at: usize, end: usize) -> usize {
        let Some(socket) = self.sockets.get(local) else {
            (at..end).for_each(|i| self.outbox.refused(i, libc::EBADF, None));
            return end;
        };
        while at < end {
            let count = (end - at).min(MAX_VECTOR);
            let headers = self.outbox.headers().wrapping_add(at);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            self.outbox.count_syscall();
            // SAFETY: `prepare` wrote these headers; `at + count` is within their number, and what they point at
            // stays in place until `clear`.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, count as u32, flags as _) };
            if sent > 0 {
                (at..at + sent as usize).for_each(|i| self.outbox.sent(i));
                at += sent as usize;
                continue;
            }
            match errno() {
                libc::EINTR => {}
                libc::EAGAIN => {
                    // The socket is full: late media is worth less than a loop that goes on.
                    (at..end).for_each(|i| self.outbox.refused(i, libc::EAGAIN, Some(socket)));
                    return end;
                }
                error => {
                    self.outbox.refused(at, error, Some(socket));
                    at += 1;
                }
            }
        }
        end
    }
}
