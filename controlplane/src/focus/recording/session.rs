//! One task: who asked for it, and which Jibri works on it.

use std::time::Instant;

use super::element::Order;
use crate::xmpp::iq::Request;

/// How far a task is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) enum Stage {
    /// A Jibri was asked, and has to answer, or to be at work, by then.
    Starting {
        jibri: String,
        #[serde(with = "crate::carried")]
        until: Instant,
    },
    /// A Jibri is at work. It says that it is idle since then, if it does, and has said nothing of the task yet.
    Running {
        jibri: String,
        #[serde(with = "crate::carried")]
        idle: Option<Instant>,
    },
    /// A recorder was in the room before we were: its nickname. Which Jibri it is, is not known.
    Found { nick: String },
}

/// One task.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Session {
    /// Signalled to clients and to the Jibri.
    pub id: String,
    pub order: Order,
    /// Who began it; nobody knows when we found it.
    pub initiator: Option<String>,
    /// The request that began it, until it is answered.
    pub waiting: Option<Request>,
    pub stage: Stage,
    /// Jibris that were tried after the first.
    pub retries: u32,
    /// Number of the latest request to a Jibri: answers to older ones are late.
    pub attempt: u64,
}

impl Session {
    /// The Jibri that works on it, or is to.
    pub fn jibri(&self) -> Option<&str> {
        match &self.stage {
            Stage::Starting { jibri, .. } | Stage::Running { jibri, .. } => Some(jibri),
            Stage::Found { .. } => None,
        }
    }

    /// Whether its beginning was announced.
    pub fn is_announced(&self) -> bool {
        self.waiting.is_none()
    }
}
