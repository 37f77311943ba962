//! What passes to another process when a focus is handed over (docs/upgrade.md): its state, its sessions with XMPP servers, the socket of
//! its pages, and the lock on its folder.

use std::os::fd::OwnedFd;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::kept::Directory;
use super::service::Focus;
use super::settings::FocusSettings;
use crate::carried;
use crate::rest;
use crate::upgrade::{BesideLoad, listening};
use crate::xmpp::{CarriedSession, SessionFile};

/// Visitor nodes whose sessions are read at most.
const MAX_NODES: usize = 1_000;

/// What is written, beside the descriptors: the pages' socket, and the lock where there is one.
#[derive(Serialize, Deserialize)]
struct Parts {
    #[serde(with = "crate::carried::secret")]
    state: Zeroizing<Vec<u8>>,
    session: Option<CarriedSession>,
    /// In the order of the settings.
    node_sessions: Vec<Option<CarriedSession>>,
    /// Requests over HTTP so far: their ids are not used again.
    http_requests: u64,
    locked: bool,
}

/// What leaves a process beside its state.
pub(super) struct Leaving {
    pub session: Option<CarriedSession>,
    pub node_sessions: Vec<Option<CarriedSession>>,
    pub http_requests: u64,
    /// The pages' socket.
    pub pages: OwnedFd,
    /// The lock on the folder.
    pub lock: Option<OwnedFd>,
}

/// A focus that may begin where another process was; nothing was sent or received yet.
pub(super) struct Inherited {
    pub focus: Focus,
    pub session: Option<CarriedSession>,
    pub node_sessions: Vec<Option<CarriedSession>>,
    pub http_requests: u64,
    pub pages: TcpListener,
    pub directory: Option<Directory>,
    pub session_file: Option<SessionFile>,
}

/// Writes everything down; the focus has sent what it had to say.
pub(super) fn export(now: Instant, focus: &Focus, leaving: Leaving) -> Result<BesideLoad, String> {
    let Leaving { session, node_sessions, http_requests, pages, lock } = leaving;
    let state = focus.export(now).map_err(|error| error.to_string())?;
    let parts = Parts { state, session, node_sessions, http_requests, locked: lock.is_some() };
    let state = carried::write(now, &parts).map_err(|error| error.to_string())?;
    Ok(BesideLoad { state, descriptors: std::iter::once(pages).chain(lock).collect() })
}

/// Reads what another process wrote.
pub(super) async fn import(settings: &FocusSettings, load: BesideLoad) -> Result<Inherited, String> {
    let BesideLoad { state, descriptors } = load;
    let now = Instant::now();
    let parts: Parts = carried::read(now, &state).map_err(|error| error.to_string())?;
    let Parts { state, session, node_sessions, http_requests, locked } = parts;
    if descriptors.len() != 1 + usize::from(locked) || node_sessions.len() > MAX_NODES || http_requests > 1 << 60 {
        return Err("the state of the focus contradicts what came with it".to_owned());
    }
    let mut descriptors = descriptors.into_iter();
    let (socket, lock) = (descriptors.next(), descriptors.next());
    let focus = Focus::import(now, settings.clone(), &state).map_err(|error| error.to_string())?;
    let pages = match socket.and_then(|socket| listening(socket, settings.rest_listen)) {
        Some(pages) => pages,
        None => rest::bind(settings.rest_listen).await.map_err(|error| error.to_string())?,
    };
    let (directory, session_file) = match &settings.state_directory {
        Some(path) => {
            let unusable = |error: std::io::Error| format!("focus.state-directory {}: {error}", path.display());
            let directory = Directory::take(path, lock).map_err(unusable)?;
            let session_file = directory.session_file().map_err(unusable)?;
            (Some(directory), Some(session_file))
        }
        None => (None, None),
    };
    Ok(Inherited { focus, session, node_sessions, http_requests, pages, directory, session_file })
}
