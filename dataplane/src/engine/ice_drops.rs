//! Which counter an ICE agent's drop belongs to.

use crate::ice::{DropCounter, DropReason};
use crate::stats::{Counter, WorkerStats};

impl DropCounter for WorkerStats {
    fn count_drop(&self, reason: DropReason) {
        self.count(match reason {
            DropReason::Malformed => Counter::DropStunMalformed,
            DropReason::UnknownUfrag => Counter::DropStunUnknownUfrag,
            DropReason::UnknownTransaction => Counter::DropStunUnknownTransaction,
            DropReason::Integrity => Counter::DropStunIntegrity,
            DropReason::Rate => Counter::DropStunRate,
            DropReason::PairsFull => Counter::DropTableFull,
            DropReason::OutputFull => Counter::DropOutputFull,
        });
    }
}
