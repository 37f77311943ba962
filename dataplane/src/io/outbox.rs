//! Outgoing datagrams of one worker and the message headers that carry them to the kernel; both backends send
//! from it. Everything is allocated once.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::address::{NAME_LEN, Name, encode};
use super::offload::SegmentControl;
use super::plan::{MAX_SEGMENTS, Plan};
use super::slab::Slab;
use super::{IoError, IoLimits, MAX_DATAGRAM, Path};
use crate::stats::{Counter, WorkerStats};

/// Bytes of a slot: [`MAX_DATAGRAM`] rounded up to whole cache lines.
const SLOT_LEN: usize = 1536;

/// Datagrams of one message that is sent without copying: the kernel takes 17 pages (`MAX_SKB_FRAGS`), and a slot may lie
/// on two.
const ZERO_COPY_SEGMENTS: usize = 8;

pub(super) struct Outbox {
    slab: Slab,
    plan: Plan,
    /// Message headers; entry `i` points at entry `i` of `names` and `controls` and into `iovecs`.
    headers: Box<[libc::mmsghdr]>,
    names: Box<[Name]>,
    controls: Box<[SegmentControl]>,
    iovecs: Box<[libc::iovec]>,
    /// Which sockets take runs; cleared for a socket whose device turns out to be unable.
    gso: Vec<bool>,
    stats: Arc<WorkerStats>,
}

impl Outbox {
    /// An empty one, for so many sockets.
    pub(super) fn new(limits: &IoLimits, sockets: usize, gso: bool, stats: Arc<WorkerStats>) -> Result<Self, IoError> {
        let slots = limits.tx_slots;
        if !(1..=65_536).contains(&slots) {
            return Err(IoError::Limit { name: "tx_slots", value: slots, min: 1, max: 65_536 });
        }
        let no_iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: mmsghdr is integers and pointers; all zeroes is a value of it (an empty message).
        let no_header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Ok(Self {
            slab: Slab::new(slots, SLOT_LEN, "the send buffers")?,
            plan: Plan::new(slots, if limits.extras.zero_copy { ZERO_COPY_SEGMENTS } else { MAX_SEGMENTS }),
            headers: vec![no_header; slots].into(),
            names: vec![Name([0; NAME_LEN]); slots].into(),
            controls: vec![SegmentControl::new(0); slots].into(),
            iovecs: vec![no_iovec; slots].into(),
            gso: vec![gso; sockets],
            stats,
        })
    }

    /// A socket is another one from now on: whether it takes runs.
    pub(super) fn set_gso(&mut self, local: u16, gso: bool) {
        if let Some(place) = self.gso.get_mut(usize::from(local)) {
            *place = gso;
        }
    }

    /// The buffer of the next datagram; `None` when all are queued.
    pub(super) fn slot(&mut self) -> Option<&mut [u8]> {
        if self.plan.is_full() {
            return None;
        }
        // SAFETY: the slot is not queued, so no request of the kernel reads or writes it.
        Some(unsafe { self.slab.bytes(self.plan.len(), 0, MAX_DATAGRAM) })
    }

    pub(super) fn commit(&mut self, len: usize, path: Path) {
        let known = usize::from(path.local) < self.gso.len() && len <= MAX_DATAGRAM;
        if !known || !self.plan.push(path, len) {
            self.stats.count(Counter::DropSendError);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.plan.is_full()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// Groups what is queued and writes the headers; returns how many messages there are, ordered by socket.
    pub(super) fn prepare(&mut self) -> usize {
        let Self { slab, plan, headers, names, controls, iovecs, gso, .. } = self;
        plan.build(|local| gso.get(usize::from(local)).copied().unwrap_or(false));
        for (place, &slot) in plan.order().iter().enumerate() {
            let slot = slot as usize;
            iovecs[place] = libc::iovec { iov_base: slab.pointer(slot).cast(), iov_len: plan.datagram_len(slot) };
        }
        let iovecs = iovecs.as_mut_ptr();
        for (i, message) in plan.messages().iter().enumerate() {
            let header = &mut headers[i].msg_hdr;
            header.msg_namelen = encode(message.path.remote, &mut names[i]);
            header.msg_name = (&raw mut names[i]).cast();
            // `range` starts inside the table, which has an entry for every datagram.
            header.msg_iov = iovecs.wrapping_add(message.range().start);
            header.msg_iovlen = message.count as _;
            if message.count > 1 {
                controls[i].set(message.segment);
                header.msg_control = (&raw mut controls[i]).cast();
                header.msg_controllen = size_of::<SegmentControl>() as _;
            } else {
                header.msg_control = std::ptr::null_mut();
                header.msg_controllen = 0;
            }
        }
        plan.messages().len()
    }

    /// Headers of the prepared messages, valid until the next `prepare`.
    pub(super) fn headers(&mut self) -> *mut libc::mmsghdr {
        self.headers.as_mut_ptr()
    }

    /// Index of the socket of message `i`.
    pub(super) fn local(&self, i: usize) -> usize {
        usize::from(self.plan.messages()[i].path.local)
    }

    /// Counts a system call that sends.
    pub(super) fn count_syscall(&self) {
        self.stats.count(Counter::Syscalls);
    }

    /// Counts message `i` as sent.
    pub(super) fn sent(&self, i: usize) {
        let message = &self.plan.messages()[i];
        self.stats.add(Counter::PacketsSent, message.count as u64);
        self.stats.add(Counter::BytesSent, message.bytes as u64);
    }

    /// Message `i` was refused, by its socket or since there is none: counts it as lost, or sends its datagrams one by one when
    /// only the run was refused.
    pub(super) fn refused(&mut self, i: usize, error: i32, socket: Option<&UdpSocket>) {
        let message = self.plan.messages()[i];
        // EIO: the device cannot checksum segments. EINVAL, EMSGSIZE: a segment exceeds this route's MTU.
        let run_refused = message.count > 1 && matches!(error, libc::EIO | libc::EINVAL | libc::EMSGSIZE);
        let Some(socket) = socket.filter(|_| run_refused) else {
            self.stats.add(Counter::DropSendError, message.count as u64);
            return;
        };
        if error == libc::EIO {
            self.gso[usize::from(message.path.local)] = false;
        }
        for place in message.range() {
            let mut header = self.headers[i].msg_hdr;
            header.msg_iov = &raw mut self.iovecs[place];
            header.msg_iovlen = 1;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            self.count_syscall();
            // SAFETY: name and iovec belong to message `i` and stay in place; the slot holds `iov_len` bytes.
            let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
            if result >= 0 {
                self.stats.count(Counter::PacketsSent);
                self.stats.add(Counter::BytesSent, result as u64);
            } else {
                self.stats.count(Counter::DropSendError);
            }
        }
    }

    /// Everything that a request may point at.
    #[cfg(test)]
    pub(super) fn header_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (i, name) in self.names.iter().enumerate() {
            let (header, part) = (&self.headers[i].msg_hdr, &self.iovecs[i]);
            bytes.extend(name.0);
            let lengths = [header.msg_namelen as usize, header.msg_iovlen, header.msg_controllen];
            let numbers = [header.msg_iov as usize, part.iov_base as usize, part.iov_len].into_iter().chain(lengths);
            bytes.extend(numbers.flat_map(usize::to_ne_bytes));
        }
        bytes
    }

    /// Frees all slots; every message must be done.
    pub(super) fn clear(&mut self) {
        self.plan.clear();
    }
}

/// The error of the last libc call.
pub(super) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(outbox: &mut Outbox, path: Path, count: u8) -> usize {
        for i in 0..count {
            outbox.slot().unwrap()[..100].fill(i);
            outbox.commit(100, path);
        }
        outbox.prepare()
    }

    #[test]
    fn a_refused_run_goes_out_one_by_one() {
        let stats = Arc::new(WorkerStats::default());
        let mut outbox = Outbox::new(&IoLimits::default(), 1, true, stats.clone()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let path = Path { local: 0, remote: peer.local_addr().unwrap() };
        // A route with a small MTU, then a device without checksum offload; only the latter switches runs off.
        for (error, messages_after) in [(libc::EMSGSIZE, 1), (libc::EIO, 5)] {
            assert_eq!(queued(&mut outbox, path, 5), 1);
            outbox.refused(0, error, Some(&socket));
            outbox.clear();
            for i in 0..5 {
                let mut buffer = [0; 200];
                assert_eq!(peer.recv(&mut buffer).unwrap(), 100);
                assert_eq!(buffer[..100], [i; 100]);
            }
            assert_eq!(queued(&mut outbox, path, 5), messages_after);
            outbox.clear();
        }
        assert_eq!((stats.get(Counter::PacketsSent), stats.get(Counter::BytesSent)), (10, 1000));
        assert_eq!(stats.get(Counter::DropSendError), 0);
    }

    #[test]
    fn other_refusals_are_counted_losses() {
        let stats = Arc::new(WorkerStats::default());
        let mut outbox = Outbox::new(&IoLimits::default(), 1, true, stats.clone()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = Path { local: 0, remote: socket.local_addr().unwrap() };
        let refusals = [
            (libc::EAGAIN, Some(&socket)),
            (libc::ENOBUFS, Some(&socket)),
            (libc::EPERM, Some(&socket)),
            (libc::EIO, None),
        ];
        for (n, (error, socket)) in refusals.into_iter().enumerate() {
            assert_eq!(queued(&mut outbox, path, 4), 1);
            outbox.refused(0, error, socket);
            outbox.clear();
            assert_eq!(stats.get(Counter::DropSendError), 4 * (n as u64 + 1));
        }
        assert_eq!(stats.get(Counter::PacketsSent), 0);
        outbox.commit(MAX_DATAGRAM + 1, path);
        assert_eq!((outbox.is_empty(), stats.get(Counter::DropSendError)), (true, 17));
    }
}
