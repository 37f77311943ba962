//! Health, version, statistics and metrics over HTTP (bridge-protocol 11).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What is served.
#[derive(Clone)]
pub struct Ops {
    /// Name in `/about/version`, e.g. `ringbridge`.
    pub name: String,
    /// `Err` says why the part is unhealthy.
    pub health: watch::Receiver<Result<(), String>>,
    /// The object at `/colibri/stats`.
    pub stats: watch::Receiver<Value>,
    /// Makes the Prometheus text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The address cannot be used.
    #[error(
        "cannot listen on {address} for health and statistics: {source}; \
         stop what uses the address (`ss -ltnp`), or choose another one in `bridge.rest.listen` or `focus.rest.listen`"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The server stopped.
    #[error("the HTTP server at {address} stopped: {source}")]
    Serve {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Serves `/about/health`, `/about/version`, `/colibri/stats`, `/stats` and `/metrics` until `shutdown` becomes true.
pub async fn serve(listen: SocketAddr, ops: Ops, mut shutdown: watch::Receiver<bool>) -> Result<(), RestError> {
    let listener = TcpListener::bind(listen).await.map_err(|source| RestError::Listen { address: listen, source })?;
    let stopped = async move {
        // An error means that nobody can ask for a shutdown any more.
        let _ = shutdown.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router(ops))
        .with_graceful_shutdown(stopped)
        .await
        .map_err(|source| RestError::Serve { address: listen, source })
}

/// The routes of [`serve`].
pub fn router(ops: Ops) -> Router {
    Router::new()
        .route("/about/health", get(health))
        .route("/about/version", get(version))
        .route("/colibri/stats", get(stats))
        .route("/stats", get(stats))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

/// 200 and nothing, or 500 and the reason.
async fn health(State(ops): State<Ops>) -> Response {
    match &*ops.health.borrow() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason.clone()).into_response(),
    }
}

async fn version(State(ops): State<Ops>) -> Json<Value> {
    Json(json!({"name": ops.name, "version": env!("CARGO_PKG_VERSION"), "os": std::env::consts::OS}))
}

async fn stats(State(ops): State<Ops>) -> Json<Value> {
    Json(ops.stats.borrow().clone())
}

async fn metrics(State(ops): State<Ops>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (ops.metrics)()).into_response()
}
