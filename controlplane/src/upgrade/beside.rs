//! Another part of the process that goes along when a bridge is handed over: the focus of `ringbridge all`. Its state travels with the
//! bridge's, in a part of its own, and it does each step when the bridge does.

use std::os::fd::OwnedFd;

use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Requests that may wait.
const REQUESTS: usize = 8;

/// What it hands over.
#[derive(Debug)]
pub struct BesideLoad {
    /// What it knows; nobody but itself understands it.
    pub state: Zeroizing<Vec<u8>>,
    /// Its sockets and files; what each is stands in the state.
    pub descriptors: Vec<OwnedFd>,
}

/// What it is asked while it runs.
#[derive(Debug)]
pub enum BesideRequest {
    /// Which of its XMPP connections another process could not resume; with `keep` the servers are to keep their sessions.
    Quiesce {
        /// Whether a hand-over follows.
        keep: bool,
        /// Names of the connections.
        reply: oneshot::Sender<Vec<String>>,
    },
    /// To come to rest and write itself down. An error leaves it running.
    Freeze {
        /// What it hands over.
        reply: oneshot::Sender<Result<BesideLoad, String>>,
    },
    /// To go on as if nothing had been.
    Resume {
        /// When it does.
        reply: oneshot::Sender<()>,
    },
    /// To be silent from here on: another process has begun.
    Commit {
        /// When it is.
        reply: oneshot::Sender<()>,
    },
}

/// The way to a part that is at work. While it is frozen and every clone of this is dropped, it goes on.
#[derive(Debug, Clone)]
pub struct Beside {
    requests: mpsc::Sender<BesideRequest>,
}

/// Its own end of a [`Beside`].
#[derive(Debug)]
pub struct BesideRequests(mpsc::Receiver<BesideRequest>);

impl BesideRequests {
    /// The next one; nothing once nobody can ask any more.
    pub async fn next(&mut self) -> Option<BesideRequest> {
        self.0.recv().await
    }
}

impl Beside {
    /// Both ends.
    pub fn new() -> (Self, BesideRequests) {
        let (requests, received) = mpsc::channel(REQUESTS);
        (Self { requests }, BesideRequests(received))
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> BesideRequest) -> Result<T, String> {
        let ended = || "the focus has ended".to_owned();
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// Which of its XMPP connections another process could not resume; with `keep` the servers keep their sessions from now on.
    pub async fn quiesce(&self, keep: bool) -> Result<Vec<String>, String> {
        self.ask(|reply| BesideRequest::Quiesce { keep, reply }).await
    }

    /// Comes to rest, and says what another process goes on with.
    pub async fn freeze(&self) -> Result<BesideLoad, String> {
        self.ask(|reply| BesideRequest::Freeze { reply }).await?
    }

    /// Goes on as if nothing had been.
    pub async fn resume(&self) -> Result<(), String> {
        self.ask(|reply| BesideRequest::Resume { reply }).await
    }

    /// Is silent from here on.
    pub async fn commit(&self) -> Result<(), String> {
        self.ask(|reply| BesideRequest::Commit { reply }).await
    }
}

/// A load to be taken over, and where the answer goes.
type Offer = (BesideLoad, oneshot::Sender<Result<(), String>>);

/// The way to a part of a new process that waits for what another process had.
#[derive(Debug)]
pub struct BesideHeir {
    offer: Option<oneshot::Sender<Offer>>,
    serve: Option<oneshot::Sender<()>>,
}

/// Its own end of a [`BesideHeir`].
#[derive(Debug)]
pub struct BesideHeritage {
    offered: oneshot::Receiver<Offer>,
    serves: oneshot::Receiver<()>,
}

impl BesideHeir {
    /// Both ends.
    pub fn new() -> (Self, BesideHeritage) {
        let ((offer, offered), (serve, serves)) = (oneshot::channel(), oneshot::channel());
        (Self { offer: Some(offer), serve: Some(serve) }, BesideHeritage { offered, serves })
    }

    /// Puts everything in its place, once. Nothing may be sent or received.
    pub async fn import(&mut self, load: BesideLoad) -> Result<(), String> {
        let ended = || "the focus has ended".to_owned();
        let (reply, answer) = oneshot::channel();
        let offer = self.offer.take().ok_or_else(|| "the focus has its state already".to_owned())?;
        offer.send((load, reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// It serves from now on.
    pub fn serve(&mut self) {
        if let Some(serve) = self.serve.take() {
            let _ = serve.send(());
        }
    }
}

impl BesideHeritage {
    /// Waits for what there is to take over, has `import` look at it, and waits until it may serve. `None` when that never comes.
    pub async fn take<T>(self, import: impl AsyncFnOnce(BesideLoad) -> Result<T, String>) -> Option<T> {
        let (load, reply) = self.offered.await.ok()?;
        match import(load).await {
            Ok(imported) => {
                reply.send(Ok(())).ok()?;
                self.serves.await.ok()?;
                Some(imported)
            }
            Err(why) => {
                let _ = reply.send(Err(why));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(state: &[u8]) -> BesideLoad {
        BesideLoad { state: Zeroizing::new(state.to_vec()), descriptors: Vec::new() }
    }

    #[tokio::test]
    async fn it_serves_what_it_has_looked_at_and_not_before() {
        let (mut heir, heritage) = BesideHeir::new();
        let taken = tokio::spawn(heritage.take(async |load| Ok(load.state.len())));
        assert_eq!(heir.import(load(b"abc")).await, Ok(()));
        assert!(heir.import(load(b"again")).await.is_err());
        assert!(!taken.is_finished());
        heir.serve();
        assert_eq!(taken.await.expect("no panic"), Some(3));
    }

    #[tokio::test]
    async fn what_is_refused_or_given_up_is_never_served() {
        let (mut heir, heritage) = BesideHeir::new();
        let taken = tokio::spawn(heritage.take(async |_| Err::<(), _>("no state".to_owned())));
        assert_eq!(heir.import(load(b"")).await, Err("no state".to_owned()));
        assert_eq!(taken.await.expect("no panic"), None);
        let (mut heir, heritage) = BesideHeir::new();
        let taken = tokio::spawn(heritage.take(async |_| Ok(())));
        assert_eq!(heir.import(load(b"")).await, Ok(()));
        drop(heir);
        assert_eq!(taken.await.expect("no panic"), None, "the upgrade was given up");
        let (beside, requests) = Beside::new();
        drop(requests);
        assert!(beside.freeze().await.is_err() && beside.commit().await.is_err());
    }
}
