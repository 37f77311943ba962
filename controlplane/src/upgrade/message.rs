//! What the two processes say to each other, and when they fit.

pub use ringbridge_dataplane::carry::STATE_VERSION;
use serde::{Deserialize, Serialize};

/// Longest text in a message, bytes; longer ones are cut.
pub const MAX_REASON: usize = 512;

/// One message. Only the successor's are answered to; the state's bytes and the descriptors travel beside [`Message::State`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// From the successor: it has read its configuration.
    Hello(Hello),
    /// From the successor: what needs no state is there.
    Prepared,
    /// From the predecessor: the state follows.
    State {
        /// Bytes in the sealed file.
        length: u64,
        /// Descriptors that follow the file.
        descriptors: u32,
    },
    /// From the predecessor: further descriptors, which are all there is to this message.
    Descriptors,
    /// From the successor: it holds everything, and would serve.
    Ready,
    /// From the successor: it will not.
    Refused(String),
    /// From the predecessor: serve. It sends nothing from here on.
    Commit {
        /// How long nothing was sent by now, microseconds.
        frozen_micros: u64,
    },
    /// From the successor: it serves.
    Serving,
}

/// Who the successor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its release.
    pub release: String,
    /// Its [`STATE_VERSION`].
    pub state_version: u16,
    /// What it was built for.
    pub architecture: String,
    /// Media workers that it is going to run. Their number is in every ufrag, and so cannot change.
    pub workers: u16,
}

impl Hello {
    /// Of this program.
    pub fn own(workers: u16) -> Self {
        Self {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            state_version: STATE_VERSION,
            architecture: std::env::consts::ARCH.to_owned(),
            workers,
        }
    }

    /// Whether `successor` understands the state of this one.
    pub fn fits(&self, successor: &Self) -> Result<(), Unfit> {
        if successor.state_version != self.state_version {
            return Err(Unfit::StateVersion { own: self.state_version, other: successor.state_version });
        }
        if successor.architecture != self.architecture {
            return Err(Unfit::Architecture { own: self.architecture.clone(), other: successor.architecture.clone() });
        }
        if successor.workers != self.workers {
            return Err(Unfit::Workers { own: self.workers, other: successor.workers });
        }
        Ok(())
    }
}

/// Why a successor cannot take over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another format of the state.
    #[error(
        "its state has version {other} and this one's has {own}; drain the bridge and restart it, or install a release of state version {own}"
    )]
    StateVersion {
        /// Of the running process.
        own: u16,
        /// Of the new one.
        other: u16,
    },
    /// Built for another machine.
    #[error("it was built for {other} and this one for {own}; install the package of this machine's architecture")]
    Architecture {
        /// Of the running process.
        own: String,
        /// Of the new one.
        other: String,
    },
    /// Another number of workers.
    #[error(
        "it is configured for {other} media workers and this one runs {own}; the number cannot change in an upgrade: configure {own}, or restart"
    )]
    Workers {
        /// Of the running process.
        own: u16,
        /// Of the new one.
        other: u16,
    },
}

/// A text of at most [`MAX_REASON`] bytes.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > MAX_REASON {
        let end = (0..=MAX_REASON).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
