//! Who may open a channel: endpoints with their passwords, and the socket that each has now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringbridge_dataplane::ids::EndpointId;
use tokio::sync::oneshot;

use super::counters::ChannelCounters;

/// The endpoints that may open a channel. Cheap to clone; clones share their content.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    endpoints: Mutex<HashMap<Key, Entry>>,
    connections: AtomicU64,
    counters: Arc<ChannelCounters>,
}

/// Conference (hex) and endpoint label, as they stand in the URL.
type Key = (String, String);

#[derive(Debug)]
struct Entry {
    password: String,
    endpoint: EndpointId,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    connection: u64,
    close: oneshot::Sender<Closing>,
}

/// Why the server closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// A newer socket of the same endpoint took over.
    Replaced,
    /// The endpoint is gone.
    EndpointClosed,
}

/// A socket that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub endpoint: EndpointId,
    pub connection: u64,
    pub closing: oneshot::Receiver<Closing>,
}

impl Registry {
    /// Lets an endpoint in from now on. A repeated call replaces the password and closes an open socket.
    pub fn insert(&self, conference: &str, label: &str, password: &str, endpoint: EndpointId) {
        let key = (conference.to_owned(), label.to_owned());
        let old = self.endpoints().insert(key, Entry { password: password.to_owned(), endpoint, socket: None });
        close(old, Closing::Replaced);
    }

    /// Lets an endpoint in no longer; its socket is closed with 1001.
    pub fn remove(&self, conference: &str, label: &str) {
        let old = self.endpoints().remove(&(conference.to_owned(), label.to_owned()));
        close(old, Closing::EndpointClosed);
    }

    /// What the server counted.
    pub fn counters(&self) -> Arc<ChannelCounters> {
        Arc::clone(&self.0.counters)
    }

    /// Whether this endpoint exists and has this password.
    pub(super) fn allows(&self, conference: &str, label: &str, password: &str) -> bool {
        let endpoints = self.endpoints();
        let entry = endpoints.get(&(conference.to_owned(), label.to_owned()));
        entry.is_some_and(|entry| same(entry.password.as_bytes(), password.as_bytes()))
    }

    /// Notes a new socket; the endpoint's former one is told to close. `None` when the endpoint is gone meanwhile.
    pub(super) fn admit(&self, conference: &str, label: &str) -> Option<Admitted> {
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed);
        let (close_sender, closing) = oneshot::channel();
        let mut endpoints = self.endpoints();
        let entry = endpoints.get_mut(&(conference.to_owned(), label.to_owned()))?;
        if let Some(former) = entry.socket.replace(Socket { connection, close: close_sender }) {
            // An error means that it is closing already.
            let _ = former.close.send(Closing::Replaced);
        }
        Some(Admitted { endpoint: entry.endpoint, connection, closing })
    }

    /// Forgets a socket that closed.
    pub(super) fn forget(&self, conference: &str, label: &str, connection: u64) {
        if let Some(entry) = self.endpoints().get_mut(&(conference.to_owned(), label.to_owned()))
            && entry.socket.as_ref().is_some_and(|socket| socket.connection == connection)
        {
            entry.socket = None;
        }
    }

    fn endpoints(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // Nothing panics while it is held; the map stays whole in any case.
        self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(entry: Option<Entry>, why: Closing) {
    if let Some(socket) = entry.and_then(|entry| entry.socket) {
        let _ = socket.close.send(why);
    }
}

/// Compares in a time that does not tell how much of the password is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (x, y)| differences | (x ^ y)) == 0
}
