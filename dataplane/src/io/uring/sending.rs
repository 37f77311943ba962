//! What the worker hands to the ring: datagrams to be sent, sockets to be opened and closed.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fixed;

use super::super::{Flush, HandedSocket, IoError, PacketSink, Path, SocketPool, offload};
use super::tx::{CANCEL, RECEIVE, SEND, UringTx};

/// Looks at the completions of sends, with SQPOLL, before the worker waits for them.
const SQPOLL_SPINS: u32 = 10_000;
/// How often, and how long each time, a socket that finds no free index waits for one that is being closed.
const CLOSING_WAITS: u32 = 4;
const CLOSING_WAIT: Duration = Duration::from_micros(500);

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
        // Like the others, see `Uring::idle`.
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
}
