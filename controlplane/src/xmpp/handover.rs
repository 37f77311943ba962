//! A session that another process goes on with (XEP-0198 section 5): the server is asked to keep it, this process stops reading
//! where it stands, and the other one resumes the stream after a login of its own. Nobody in a room sees anybody leave.

use tokio::sync::{mpsc, oneshot};

/// What the task behind a connection is asked.
#[derive(Debug)]
pub(super) enum Control {
    /// Have the server keep the session when its stream breaks.
    Keep { reply: oneshot::Sender<Keeping> },
    /// Say whether it would.
    WouldKeep { reply: oneshot::Sender<Keeping> },
    /// Read nothing more, and report [`super::XmppEvent::Parked`] behind what was read.
    Park,
    /// Send what waits to be sent; what another process needs. Only once parked.
    Export { reply: oneshot::Sender<Option<CarriedSession>> },
    /// Go on as before.
    Resume,
    /// End without a word to the server: another process goes on.
    Abandon,
}

/// Whether a server keeps a session for another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// It does.
    Kept,
    /// It has no stream management, or does not resume.
    Unsupported,
    /// There is no connection.
    Offline,
}

/// A session as another process gets it. Whoever has it and the account's password can go on with it.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CarriedSession {
    pub(super) resume_id: String,
    /// Our address in it.
    pub(super) jid: String,
    /// Stanzas that we received.
    pub(super) received: u32,
    /// Stanzas that the server acknowledged.
    pub(super) acked: u32,
    /// Stanzas sent and not acknowledged, as XML.
    pub(super) unacked: Vec<String>,
}

/// Without what resumes it.
impl std::fmt::Debug for CarriedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unacked = self.unacked.len();
        f.debug_struct("CarriedSession").field("jid", &self.jid).field("unacked", &unacked).finish_non_exhaustive()
    }
}

/// Nothing is read or opened until whoever parked the connection says so; false when it is abandoned.
pub(super) async fn hold(control: &mut mpsc::Receiver<Control>) -> bool {
    loop {
        match control.recv().await {
            Some(Control::Export { reply }) => drop(reply.send(None)),
            Some(Control::Keep { reply } | Control::WouldKeep { reply }) => drop(reply.send(Keeping::Offline)),
            Some(Control::Park) => {}
            Some(Control::Resume) => return true,
            Some(Control::Abandon) | None => return false,
        }
    }
}
