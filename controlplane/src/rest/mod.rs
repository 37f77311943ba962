//! Health, version, statistics, metrics and what an operator may ask for (docs/protocol/bridge.md 11.1, docs/protocol/focus.md 9).

mod absent;
mod conference_request;
mod focus_operator;
mod hosts;
mod operator;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::door::{self, Door, DoorCounters};
use crate::logging::LogCounters;
use crate::metrics::{Family, Format};
pub use conference_request::{ConferenceReply, ConferenceRequest, router as conference_requests};
pub use focus_operator::{FocusAnswer, FocusAsk, FocusRequest, router as focus_operator};
use hosts::Hosts;
pub use operator::{Ask, Operator, OperatorRequest};

/// What the pages of all parts of one process have in common.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Names under which they are answered beside those that need no mention.
    pub host_names: Vec<String>,
    /// What the log counts.
    pub log: Arc<LogCounters>,
}

/// What the pages show.
#[derive(Clone)]
pub struct Ops {
    /// `bridge` or `focus`.
    pub name: String,
    /// Whether the service works, or why not.
    pub health: watch::Receiver<Result<(), String>>,
    /// The JSON of `/stats` and `/colibri/stats`.
    pub stats: watch::Receiver<serde_json::Value>,
    /// The metrics of `/metrics`.
    pub metrics: Arc<dyn Fn() -> Vec<Family> + Send + Sync>,
    /// For what is asked of a bridge; a focus has nothing of that.
    pub operator: Option<Operator>,
    /// The JSON of `/debug/bandwidth`; a focus has none.
    pub bandwidth: Option<watch::Receiver<serde_json::Value>>,
    /// Counters of the other doors of this part; [`serve`] adds those of its own.
    pub doors: Vec<Arc<DoorCounters>>,
    /// What the pages of other parts show too.
    pub process: Process,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The address cannot be bound.
    #[error(
        "cannot listen on {address} for health and statistics: {source}; choose another with --rest-listen or --focus-rest-listen"
    )]
    Listen {
        /// The address that cannot be bound.
        address: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// The pages, and what is refused of requests for them.
#[derive(Clone)]
struct Pages {
    ops: Ops,
    hosts: Arc<Hosts>,
}

/// The pages, with further ones for operators.
pub fn router(ops: Ops, more: Router) -> Router {
    let hosts = Arc::new(Hosts::new(&ops.process.host_names));
    let operator = ops.operator.clone().map(operator::router);
    let pages = Router::new()
        .route("/about/health", get(health))
        .route("/about/version", get(version))
        .route("/colibri/stats", get(stats))
        .route("/stats", get(stats))
        .route("/metrics", get(metrics))
        .route("/debug/bandwidth", get(bandwidth))
        .with_state(Pages { ops, hosts: Arc::clone(&hosts) });
    let pages = match operator {
        Some(operator) => pages.merge(operator),
        None => pages,
    };
    pages
        .merge(more)
        .fallback(absent::answer)
        .layer(DefaultBodyLimit::max(door::MAX_BODY))
        .layer(from_fn_with_state(hosts, hosts::guard))
}

/// Serves the pages until `shutdown`.
pub async fn serve(listen: SocketAddr, ops: Ops, shutdown: watch::Receiver<bool>) -> Result<(), RestError> {
    serve_beside(listen, ops, Beside::default(), shutdown).await
}

/// What is served beside the pages of all parts.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Routes for operators.
    pub operators: Router,
    /// Not for operators alone: answered under any name.
    pub clients: Router,
}

/// The same beside more.
pub async fn serve_beside(
    listen: SocketAddr,
    ops: Ops,
    beside: Beside,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RestError> {
    serve_at(Door::new(door::Name::Pages, bind(listen).await?), ops, beside, shutdown).await;
    Ok(())
}

/// Binds the socket of the pages.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, RestError> {
    TcpListener::bind(listen).await.map_err(|source| RestError::Listen { address: listen, source })
}

/// [`serve_beside`] at a door of one's own.
pub async fn serve_at(door: Door, mut ops: Ops, beside: Beside, shutdown: watch::Receiver<bool>) {
    ops.doors.push(door.counters());
    door.serve(router(ops, beside.operators).merge(beside.clients), shutdown).await;
}

async fn health(State(Pages { ops, .. }): State<Pages>) -> Response {
    match ops.health.borrow().clone() {
        // Without a body, like Jitsi Videobridge.
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response(),
    }
}

async fn version(State(Pages { ops, .. }): State<Pages>) -> Response {
    let body = serde_json::json!({
        "name": format!("ringbridge {}", ops.name),
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
    });
    Json(body).into_response()
}

async fn stats(State(Pages { ops, .. }): State<Pages>) -> Response {
    Json(ops.stats.borrow().clone()).into_response()
}

async fn bandwidth(State(Pages { ops, .. }): State<Pages>) -> Response {
    match &ops.bandwidth {
        Some(bandwidth) => Json(bandwidth.borrow().clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn metrics(State(Pages { ops, hosts }): State<Pages>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let doors = DoorCounters::families(ops.doors.iter().map(Arc::as_ref));
    let families = [(ops.metrics)(), ops.process.log.families(), doors, vec![hosts.family()]].concat();
    ([(header::CONTENT_TYPE, format.content_type())], format.write(&families)).into_response()
}
