//! Datagrams in and out of the kernel. The one folder with `unsafe`.
//!
//! Two backends stand behind [`PacketIo`]: [`Uring`] (io_uring) and [`Mmsg`] (`recvmmsg`/`sendmmsg`).
//! [`probe`] picks one and says why. A worker is generic over the trait and looks like this:
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//! use ringbridge_dataplane::io::*;
//! use ringbridge_dataplane::stats::WorkerStats;
//!
//! fn echo(mut io: impl PacketIo) -> std::io::Result<()> {
//!     loop {
//!         let received = io.receive(Duration::from_millis(10))?;
//!         let (batch, tx) = io.parts();
//!         for i in 0..received {
//!             let Some(datagram) = batch.get(i) else { continue };
//!             let Some(slot) = tx.slot() else { continue };
//!             slot[..datagram.data.len()].copy_from_slice(datagram.data);
//!             tx.commit(datagram.data.len(), datagram.path);
//!         }
//!         tx.flush()?;
//!     }
//! }
//!
//! let sockets = bind_sockets(&["127.0.0.1".parse().unwrap()], 10_000, &SocketOptions::default()).unwrap();
//! let (wake, stats) = (EventFd::new().unwrap(), Arc::new(WorkerStats::default()));
//! // On the worker's own thread: an io_uring belongs to the thread that made it.
//! match probe(IoChoice::Auto, IoExtras::default()).unwrap().backend {
//!     Backend::Uring => echo(Uring::new(sockets, wake, IoLimits::default(), stats).unwrap()),
//!     Backend::Mmsg => echo(Mmsg::new(sockets, wake, IoLimits::default(), stats).unwrap()),
//! }
//! .unwrap();
//! ```

use std::time::Duration;

mod address;
mod affinity;
mod bpf;
mod clock;
mod detached;
mod error;
mod eventfd;
mod extras;
mod listener;
mod mmsg;
mod offload;
mod outbox;
mod plan;
mod probe;
mod provided;
mod readiness;
mod relay_ports;
mod rx;
mod slab;
mod socket;
mod sockets;
mod steering;
mod uring;
mod wait;

pub use crate::datagram::{HandedSocket, LocalSocket, MAX_DATAGRAM, PacketSink, Path};

pub use affinity::{allowed_cores, pin_to_core, sleep_precisely, wake_promptly};
pub use clock::{processor_time, read_clock};
pub use detached::spawn_detached;
pub use error::{IoError, UringFault};
pub use eventfd::EventFd;
pub use extras::{IoExtras, UnknownExtra};
pub use listener::defer_accept;
pub use mmsg::{Mmsg, MmsgTx};
pub use probe::{Backend, Probed, probe};
pub use relay_ports::{PortRange, RelayPorts, resolve_wildcard};
pub use rx::{Received, RxBatch};
pub use socket::{SocketOptions, bind_sockets};
pub use sockets::SocketDuplicate;
pub use steering::Steering;
pub use uring::{Uring, UringTx};

/// Hands what was committed to the kernel.
pub trait Flush {
    /// Sends everything that is queued, now: never waits to fill a batch, never waits for a full socket.
    /// Datagrams that the kernel refuses are counted (`DropSendError`), not an error; an error means that the
    /// backend is unusable.
    fn flush(&mut self) -> std::io::Result<()>;
}

/// Sockets that come and go while a worker runs.
pub trait SocketPool {
    /// Takes up a further socket, which is its owner's alone, and returns its index ([`Path::local`]). An error leaves all others as
    /// they were, and closes this one.
    fn open(&mut self, socket: HandedSocket) -> Result<u16, IoError>;

    /// Gives up what [`Self::open`] took. What is queued is sent first, what comes later is lost, and nobody else gets the index while
    /// anything is on its way; only the batch, if it was not looked at yet, may still hold something. Any other index changes nothing.
    fn close(&mut self, local: u16) -> std::io::Result<()>;

    /// Like [`Self::open`] under an index that is free: that which the socket had in another process.
    fn open_at(&mut self, local: u16, socket: HandedSocket) -> Result<(), IoError>;
}

/// One worker's sockets: receives in batches, sends in batches.
pub trait PacketIo {
    /// The sending half.
    type Tx: PacketSink + Flush + SocketPool;

    /// Forgets the previous batch, then waits at most `timeout` for datagrams or for the wake-up eventfd (which it
    /// drains) and returns how many datagrams lie in the new batch: zero after a timeout, a signal or a wake-up
    /// without datagrams. A zero timeout only looks. Does not flush.
    fn receive(&mut self, timeout: Duration) -> std::io::Result<usize>;

    /// Forgets the previous batch, and leaves what comes within `time` to the next [`Self::receive`], which brings it together.
    /// Ends early when a whole batch lies there, or at a wake-up, where the backend notices. Does not flush.
    fn coalesce(&mut self, time: Duration) -> std::io::Result<()>;

    /// Stops receiving: from now on nothing is taken out of the sockets, which keep what comes. What the kernel had taken out before
    /// is to be fetched by [`Self::take_completed`]. An error when the kernel does not let go.
    fn pause(&mut self) -> std::io::Result<()>;

    /// Forgets the previous batch, and returns how many datagrams lie in the new one, of those that were received before
    /// [`Self::pause`]; zero when that was all.
    fn take_completed(&mut self) -> std::io::Result<usize>;

    /// Ends [`Self::pause`]: the next [`Self::receive`] receives again. Another process may have used the sockets meanwhile.
    fn resume(&mut self) -> std::io::Result<()>;

    /// Further descriptors of all its sockets, in the order of their indices.
    fn duplicates(&self) -> std::io::Result<Vec<SocketDuplicate>>;

    /// What the socket of an index had dropped when somebody else counted last: only what it drops beyond that is counted here.
    fn count_drops_from(&mut self, local: u16, drops: u32);

    /// The received batch and the sender, borrowed together so that a step can read one and write the other.
    fn parts(&mut self) -> (&mut RxBatch, &mut Self::Tx);

    /// What the sockets' kernel offers, for the start-up log.
    fn offloads(&self) -> Offloads;
}

/// Kernel offloads in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Sends runs of equal datagrams as one message (`UDP_SEGMENT`).
    pub gso: bool,
    /// Receives runs of equal datagrams as one message (`UDP_GRO`).
    pub gro: bool,
}

/// Bounds of one worker's buffers, all allocated at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoLimits {
    /// Receive buffers that the io_uring backend provides to the kernel, rounded up to a power of two, at most
    /// 32,768. One takes 65,792 bytes with GRO and 2,048 without. What finds no buffer waits in the socket.
    pub rx_buffers: usize,
    /// Datagrams that can be queued between two flushes; 1,536 bytes each.
    pub tx_slots: usize,
    /// Received messages (with GRO: runs of datagrams) per batch; also the number of `recvmmsg` buffers.
    pub batch: usize,
    /// Sockets that the worker can be handed while it runs, 0 to 16,384; at most half of what the process may open.
    pub handed_sockets: usize,
    /// Whether to use GSO and GRO where the kernel has them.
    pub offload: bool,
    /// What is off unless asked for.
    pub extras: IoExtras,
}

impl Default for IoLimits {
    /// 256 receive buffers (16 MiB with GRO), 256 slots, 64 messages per batch, 512 handed sockets, offloads on. The slots' 384 KiB stay in a
    /// core's second cache until the kernel has read them: with 2,048, 500 receivers cost a quarter more per packet.
    fn default() -> Self {
        Self {
            rx_buffers: 256,
            tx_slots: 256,
            batch: 64,
            handed_sockets: 512,
            offload: true,
            extras: IoExtras::default(),
        }
    }
}

/// Which backend to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// The better one that the host allows.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// `recvmmsg`/`sendmmsg`.
    Mmsg,
}
