//! What is put to the test: ringbridge's dataplane in this process, another forwarder as a process, or a bare loop that
//! shows what the kernel alone costs.

pub mod bare;
pub mod in_process;
pub mod linked;
mod pages;
pub mod peer;
mod sealed;
pub mod whole;

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use crate::cpu::CpuTime;
use crate::generator::GeneratorError;
use crate::generator::world::{ClientId, World};

/// Why a subject cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It is not on this machine; the text has the remedy.
    #[error("{0}")]
    Missing(String),
    /// The dataplane did not start.
    #[error(transparent)]
    Dataplane(#[from] ringbridge_dataplane::StartError),
    /// Its sockets failed, or its cores are not available.
    #[error(transparent)]
    Io(#[from] ringbridge_dataplane::io::IoError),
    /// The cores of the benchmark itself.
    #[error(transparent)]
    Core(#[from] crate::cores::CoreError),
    /// A capture that cannot be played.
    #[error(transparent)]
    Capture(#[from] crate::media::capture::CaptureError),
    /// A worker does not take commands.
    #[error("the worker's command ring is full: the worker has stopped or is too slow")]
    RingFull,
    /// The generator failed.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
    /// The other process broke the protocol or ended.
    #[error("{name}: {what}")]
    Peer {
        /// The peer's name.
        name: String,
        /// How it broke the protocol, or how it ended.
        what: String,
    },
    /// Its processor time cannot be read.
    #[error("cannot read processor time from /proc: {0}")]
    Cpu(#[source] io::Error),
}

/// What a subject counts of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnCounters {
    /// Packets forwarded, once per receiver.
    pub forwarded: u64,
    /// System calls of the packet path.
    pub syscalls: u64,
    /// Packets dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Packets that did not go to a receiver, by reason, once for each.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Packets of media that were lost before it was known whose they are, by reason.
    pub lost_before: BTreeMap<&'static str, u64>,
    /// Packets that were sent again.
    pub repeated: u64,
}

impl OwnCounters {
    /// What was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let added = |now: &BTreeMap<&'static str, u64>, before: &BTreeMap<&'static str, u64>| {
            let earlier = |reason| before.get(reason).copied().unwrap_or(0);
            now.iter().map(|(reason, n)| (*reason, n - earlier(reason))).filter(|(_, n)| *n > 0).collect()
        };
        Self {
            forwarded: self.forwarded - before.forwarded,
            syscalls: self.syscalls - before.syscalls,
            dropped: added(&self.dropped, &before.dropped),
            left_out: added(&self.left_out, &before.left_out),
            lost_before: added(&self.lost_before, &before.lost_before),
            repeated: self.repeated - before.repeated,
        }
    }
}

/// A forwarder under test.
pub trait Subject {
    /// Name in tables and JSON.
    fn name(&self) -> &str;
    /// Brings a client in; it then connects by itself, see [`World::connect`]. Its streams are known already.
    fn join(&mut self, world: &mut World, client: ClientId, room: usize) -> Result<(), SubjectError>;
    /// Does what the subject needs done in this process; called about every millisecond.
    fn poll(&mut self, now: Instant) -> Result<(), SubjectError>;
    /// Processor time of its packet path.
    fn cpu(&self) -> Result<CpuTime, SubjectError>;
    /// Processor time of its control plane, if that runs with it.
    fn control_cpu(&self) -> Result<Option<CpuTime>, SubjectError> {
        Ok(None)
    }
    /// Its own counters, if it has some that can be read while media flows.
    fn counters(&self) -> Option<OwnCounters>;
    /// The same between two windows, when it may take some milliseconds.
    fn counters_at_rest(&self) -> Option<OwnCounters> {
        self.counters()
    }
    /// Resident memory of the process that it runs in, bytes.
    fn resident(&self) -> Result<u64, SubjectError>;
    /// Whether receivers get the payload types that they negotiated, so that the check can insist.
    fn translates(&self) -> bool;
    /// Whether a participant publishes and receives over one transport. Where not, it is one client that publishes and one for
    /// each stream that it receives.
    fn bundles(&self) -> bool {
        true
    }
}
