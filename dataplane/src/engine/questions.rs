//! Questions to STUN servers, asked from the media port since that is the port whose mapping counts. Only an answer to a
//! question that is open goes on to the control plane: what strangers invent stays here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::datagram::{PacketSink, Path};
use crate::ice::stun::{Class, Message, TransactionId, Writer};

/// Most questions that wait for an answer; the oldest gives way.
pub(super) const MAX_QUESTIONS: usize = 128;

/// The questions that wait.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Questions {
    open: VecDeque<(Path, TransactionId)>,
}

impl Questions {
    /// Sends a Binding request without credentials (RFC 8489 section 6.2.1), again when it was asked before; false when the
    /// output is full.
    pub fn ask(&mut self, path: Path, transaction: TransactionId, sink: &mut impl PacketSink) -> bool {
        if !self.open.contains(&(path, transaction)) {
            if self.open.len() >= MAX_QUESTIONS {
                self.open.pop_front();
            }
            self.open.push_back((path, transaction));
        }
        let written = sink.slot().and_then(|slot| Writer::new(slot, Class::Request, &transaction).finish_unsigned());
        if let Some(len) = written {
            sink.commit(len, path);
        }
        written.is_some()
    }

    /// Whether this is the answer to a question that was asked there; that one waits no more.
    pub fn take_answered(&mut self, path: Path, message: &Message<'_>) -> bool {
        let Some(at) = self.open.iter().position(|question| *question == (path, message.transaction())) else {
            return false;
        };
        // Only now, since it costs more than to find out that nobody asked.
        message.is_intact() && self.open.remove(at).is_some()
    }
}
