//! Requests for a conference over HTTP (docs/protocol/focus.md 2.4). They come from clients, by way of the site's web server.

use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::door;

/// The focus answers within this; a room that its server does not set up is given up by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an address that a web server passes on.
const MAX_ADDRESS: usize = 100;

/// One request; the answer comes back through `reply`.
#[derive(Debug)]
pub struct ConferenceRequest {
    /// What the client sent; null where it is no JSON.
    pub body: Value,
    /// The client's address, as the web server before us forwards it.
    pub client: Option<String>,
    /// The token that it shows (`Authorization: Bearer`), not verified.
    pub token: Option<String>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<ConferenceReply>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum ConferenceReply {
    /// The conference, ready or not.
    Conference(Value),
    /// The session that the client showed is not one: it is to forget it.
    InvalidSession,
    /// The client has to log in.
    Forbidden,
    /// It asks too often.
    TooMany,
    /// Anything else that is wrong with it.
    Bad(String),
}

/// The route; `requests` leads to the focus.
pub fn router(requests: mpsc::Sender<ConferenceRequest>) -> Router {
    Router::new()
        .route("/conference-request/v1", post(ask).options(|| async { StatusCode::OK }))
        .layer(DefaultBodyLimit::max(door::MAX_BODY))
        .with_state(requests)
}

/// The last address is the one that our own web server saw; what stands before it a client may have made up.
fn client(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let last = all.rsplit(',').next()?.trim();
    (!last.is_empty() && last.len() <= MAX_ADDRESS).then(|| last.to_owned())
}

fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

async fn ask(
    State(requests): State<mpsc::Sender<ConferenceRequest>>,
    headers: HeaderMap,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Response {
    let (reply, answer) = oneshot::channel();
    // One that is too long is no JSON either: the focus counts what it refuses.
    let body = body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or(Value::Null);
    let request = ConferenceRequest { body, client: client(&headers), token: token(&headers), reply };
    // A full queue is an answer too: clients ask again.
    let sent = requests.try_send(request).is_ok();
    match if sent { timeout(PATIENCE, answer).await.ok().and_then(Result::ok) } else { None } {
        Some(ConferenceReply::Conference(conference)) => Json(conference).into_response(),
        // Clients look for these words after the first character.
        Some(ConferenceReply::InvalidSession) => {
            (StatusCode::BAD_REQUEST, "Error: 400 invalid-session").into_response()
        }
        Some(ConferenceReply::Forbidden) => StatusCode::FORBIDDEN.into_response(),
        Some(ConferenceReply::TooMany) => StatusCode::TOO_MANY_REQUESTS.into_response(),
        Some(ConferenceReply::Bad(text)) => (StatusCode::BAD_REQUEST, text).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the focus does not answer").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_as_rfc_6750_says() {
        let of = |value: &'static str| {
            token(&HeaderMap::from_iter([("authorization".parse().expect("a name"), value.parse().expect("a value"))]))
        };
        assert_eq!((of("Bearer a.b.c").as_deref(), of("bearer  a ").as_deref()), (Some("a.b.c"), Some("a")));
        assert_eq!((of("Basic a"), of("Bearer"), token(&HeaderMap::new())), (None, None, None));
    }

    #[test]
    fn the_address_that_our_web_server_saw() {
        let seen = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            client(&headers)
        };
        assert_eq!(seen(&["203.0.113.7"]).as_deref(), Some("203.0.113.7"));
        assert_eq!(seen(&["10.0.0.1, 2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(seen(&["a", "b, c"]).as_deref(), Some("c"));
        for none in [&[][..], &[""], &["a,"], &[&"x".repeat(MAX_ADDRESS + 1)]] {
            assert_eq!(seen(none), None, "{none:?}");
        }
    }
}
