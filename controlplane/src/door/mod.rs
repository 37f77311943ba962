//! The listening HTTP sockets: how many connections each holds, from whom, and how patient it is with them. What stands
//! behind a door is a router; the bounds are the same for all.

mod bounds;
mod counters;
mod guests;
mod stream;

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ringbridge_dataplane::io::defer_accept;
use rustix::net::listen;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::logging::Occasional;
use crate::pace::{Bucket, Rate};
pub use bounds::{Bounds, Name};
pub use counters::DoorCounters;
use counters::Refused;
pub use guests::Pass;
use guests::{Admission, CROWD, Guests};
use stream::Patient;

/// Largest request head, bytes, and the number of its fields.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;
/// Largest request body, bytes.
pub const MAX_BODY: usize = 16 * 1024;
/// Requests over one connection; beyond it each waits for its turn.
const REQUESTS: Rate = Rate { burst: 50, per_second: 20.0 };
/// Connections that the kernel keeps until they are accepted, at most `net.core.somaxconn`. Beyond it a client tries again a second later.
const QUEUE: i32 = 1024;
/// Wait after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Wait after [`CROWD`] connections while a door is crowded, so that those inside are served first.
const CROWDED: Duration = Duration::from_millis(1);
/// How long open requests may go on when the door closes.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// Where a descriptor is held in reserve.
const SPARE: &str = "/dev/null";

/// A socket that listens.
#[derive(Debug)]
pub struct Door {
    name: Name,
    listener: TcpListener,
    bounds: Bounds,
    counters: Arc<DoorCounters>,
    /// While it is true, connections are left in the socket's queue.
    held: Option<watch::Receiver<bool>>,
}

impl Door {
    /// A door with the bounds of its name.
    pub fn new(name: Name, listener: TcpListener) -> Self {
        Self::with_bounds(name, listener, Bounds::new(name, descriptors()))
    }

    /// A door with other bounds.
    pub fn with_bounds(name: Name, listener: TcpListener, bounds: Bounds) -> Self {
        // Whoever has asked nothing yet takes nobody's place, and is not pushed out before it can ask.
        if let Err(error) = defer_accept(&listener) {
            tracing::warn!(%error, door = ?name, "connections that say nothing cannot be left with the kernel: a flood of others may close them early");
        }
        if let Err(error) = listen(&listener, QUEUE) {
            tracing::warn!(%error, door = ?name, "the queue of connections stays short: in a flood a client may wait for a second");
        }
        Self { name, listener, bounds, counters: Arc::new(DoorCounters::new(name)), held: None }
    }

    /// Nobody is let in while `held` is true: who connects waits in the socket, for this process or for another one that has it.
    pub fn held_while(self, held: watch::Receiver<bool>) -> Self {
        Self { held: Some(held), ..self }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<DoorCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop` becomes true or its sender is gone.
    pub async fn serve(mut self, router: Router, mut stop: watch::Receiver<bool>) {
        let guests = Guests::new(self.bounds, self.counters());
        let mut open = JoinSet::new();
        let mut spare = File::open(SPARE).ok();
        let mut in_a_row = 0;
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                accepted = accept(&self.listener, &mut self.held) => accepted,
                Some(_) = open.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(admission) = guests.admit(peer.ip()) {
                        open.spawn(attend(stream, admission, router.clone(), self.bounds, stop.clone()));
                    }
                }
                Err(error) => {
                    self.accept_failed(&error);
                    // The descriptor that was held back lets the next one in; that of whoever waits longest is freed.
                    if spare.take().is_none() {
                        guests.evict_oldest();
                        sleep(ACCEPT_AGAIN).await;
                    }
                    continue;
                }
            }
            if spare.is_none() {
                spare = File::open(SPARE).ok();
            }
            in_a_row += 1;
            if in_a_row >= CROWD && guests.crowded() {
                sleep(CROWDED).await;
                in_a_row = 0;
            }
        }
        drop(self.listener);
        let _ = timeout(LAST_REQUESTS, async { while open.join_next().await.is_some() {} }).await;
    }

    fn accept_failed(&self, error: &io::Error) {
        static LOG: Occasional = Occasional::new();
        self.counters.refuse(Refused::NotAccepted);
        if let Some(more) = LOG.allow() {
            tracing::warn!(%error, door = ?self.name, more, "a connection cannot be accepted; look at the limit of open files (LimitNOFILE)");
        }
    }
}

/// The next connection, once the door is not held.
async fn accept(
    listener: &TcpListener,
    held: &mut Option<watch::Receiver<bool>>,
) -> io::Result<(TcpStream, std::net::SocketAddr)> {
    let Some(held) = held else { return listener.accept().await };
    loop {
        if held.wait_for(|held| !*held).await.is_err() && *held.borrow() {
            // Whoever held it has gone, and the process is about to.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            biased;
            Ok(()) = held.changed() => {}
            accepted = listener.accept() => return accepted,
        }
    }
}

/// Serves one connection.
async fn attend(
    stream: TcpStream,
    admission: Admission,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let Admission { pass, evicted } = admission;
    let counters = pass.counters();
    let _ = stream.set_nodelay(true);
    let for_requests = Arc::new(pass);
    let requests = Cell::new(Bucket::new(REQUESTS));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let (router, pass) = (router.clone(), Arc::clone(&for_requests));
        let counters = pass.counters();
        request.extensions_mut().insert(Arc::clone(&pass));
        let mut bucket = requests.get();
        let wait = bucket.charge(Instant::now(), 1);
        requests.set(bucket);
        async move {
            // Even a sleep of no length waits for the timer's next tick, and until then it counts as one that waits.
            if !wait.is_zero() {
                sleep(wait).await;
            }
            let _serving = pass.serving();
            Ok::<_, Infallible>(answer(router, request.map(Body::new), bounds.answer, &counters).await)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
    let connection = http.serve_connection(TokioIo::new(Patient::new(stream, bounds.write)), service).with_upgrades();
    tokio::pin!(connection);
    let evicted = async {
        if evicted.await.is_err() {
            // A WebSocket, or at its end: nobody will ask it to go.
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = evicted => None,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_REQUESTS, connection.as_mut()).await.ok()
        }
        () = sleep(bounds.age) => {
            counters.refuse(Refused::Aged);
            connection.as_mut().graceful_shutdown();
            timeout(bounds.answer, connection.as_mut()).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        counters.refuse(if error.is_timeout() {
            Refused::HeadTimeout
        } else if error.is_parse() || error.is_parse_too_large() {
            Refused::Malformed
        } else {
            Refused::Broken
        });
    }
}

/// Ends when the door is to close.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says so too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn answer(router: Router, request: Request, patience: Duration, counters: &DoorCounters) -> Response {
    match timeout(patience, router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            counters.refuse(Refused::AnswerTimeout);
            (StatusCode::REQUEST_TIMEOUT, "the request did not arrive, or was not answered, in time").into_response()
        }
    }
}

/// Descriptors that this process may have.
fn descriptors() -> usize {
    const USUAL: usize = 1024;
    std::fs::read_to_string("/proc/self/limits").ok().and_then(|limits| soft_limit(&limits)).unwrap_or(USUAL)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors() {
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit("Max open files   unlimited unlimited files"), Some(usize::MAX));
        assert_eq!(soft_limit(""), None);
        assert!(descriptors() >= 16);
    }
}
