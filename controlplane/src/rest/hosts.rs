//! Whom the pages answer (docs/protocol/focus.md 9): a web page that a browser on this network shows must not reach them, neither
//! by a request of its own (its `Origin` says so) nor by a name that it made point here (`Host`: DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::logging::Occasional;
use crate::metrics::{Family, Kind};

/// Answered under any name: they say nothing of anybody, and load balancers check them under names of theirs.
const FOR_ANYBODY: [&str; 2] = ["/about/health", "/about/version"];
/// Names below these are nobody's in the public DNS (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`; `cluster.local`
/// is Kubernetes'). `local` alone is not among them: anybody on the same link may take such a name.
const PRIVATE: [&str; 4] = [".localhost", ".internal", ".home.arpa", ".cluster.local"];

/// Under which names the pages of one listener are answered, and what they refused.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Names of this host, in lower case.
    own: String,
    /// Names that the operator added.
    named: Vec<String>,
    foreign_host: AtomicU64,
    foreign_origin: AtomicU64,
}

impl Hosts {
    /// Also under these names.
    pub fn new(named: &[String]) -> Self {
        let plain = |name: &String| name.trim().trim_end_matches('.').to_ascii_lowercase();
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            own: plain(&own),
            named: named.iter().map(plain).filter(|name| !name.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// Whether a web page of somebody else cannot have this name: addresses, names without a dot (`localhost`, a container's),
    /// private ones, this host's own, and what the operator named.
    fn know(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() {
            return false;
        }
        name.parse::<IpAddr>().is_ok()
            || !name.contains('.')
            || name == self.own
            || self.named.contains(&name)
            || PRIVATE.iter().any(|private| name.ends_with(private))
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        static LOG: Occasional = Occasional::new();
        let (counter, text) = match refusal {
            Refusal::Host => (
                &self.foreign_host,
                "this bridge is not known under that name: use its address or host name, or add the name to rest.host-names (--rest-host-names)",
            ),
            Refusal::Origin => (&self.foreign_origin, "requests from web pages are refused here"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = LOG.allow() {
            tracing::warn!(reason = ?refusal, more, "a request for the operators' pages was refused: {text}");
        }
        (StatusCode::FORBIDDEN, text).into_response()
    }

    /// What was refused, as a metric.
    pub fn family(&self) -> Family {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let counts = [("host", value(&self.foreign_host)), ("origin", value(&self.foreign_origin))];
        Family::new("ringbridge_rest_refused", "Requests of foreign web pages refused.", Kind::PlainCounter)
            .by_reason(counts)
    }
}

/// Beginnings of paths at which a GET changes something: Jicofo's scripts ask so. A page of others could have it fetched.
const CHANGED_BY_GET: &[&str] = &["/move-endpoints/"];

/// Lets through what does not come from a foreign web page.
pub(super) async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    match judge(request.method(), request.uri(), request.headers(), |name| hosts.know(name)) {
        Ok(()) => next.run(request).await,
        Err(refusal) => hosts.refuse(refusal),
    }
}

#[derive(Debug, PartialEq)]
enum Refusal {
    Host,
    Origin,
}

/// Whether a request may be answered; `known` says which names are ours.
fn judge(method: &Method, uri: &Uri, headers: &HeaderMap, known: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // Two of them, of which another reader may take the other one, are no browser's.
    let hosts = headers.get_all(header::HOST).iter().count();
    let host = uri.authority().map(|authority| authority.as_str()).or(text(header::HOST));
    let reads = (method == Method::GET || method == Method::HEAD)
        && !CHANGED_BY_GET.iter().any(|path| uri.path().starts_with(path));
    if !(reads && FOR_ANYBODY.contains(&uri.path())) {
        // Who sends none is no browser.
        if hosts > 1 || host.is_some_and(|host| !known(name_of(host))) {
            return Err(Refusal::Host);
        }
    }
    let same = |origin: &str| host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, from)| from == host));
    let foreign = text(header::ORIGIN).is_some_and(|origin| !same(origin));
    // Browsers say it of what has no origin, too (Fetch Metadata).
    let fetched = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if !reads && (foreign || fetched) { Err(Refusal::Origin) } else { Ok(()) }
}

/// Without the port.
fn name_of(host: &str) -> &str {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &str, path: &str, fields: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a field"));
        }
        let hosts =
            Hosts { own: "bridge1.meet.example".to_owned(), ..Hosts::new(&[" Pages.meet.example.".to_owned()]) };
        let (method, path) = (method.parse().expect("a method"), path.parse().expect("a path"));
        judge(&method, &path, &headers, |name| hosts.know(name))
    }

    const DRAIN: &str = "/colibri/drain/enable";

    #[test]
    fn scripts_and_sidecars_get_through() {
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.1.2.3",
            "jvb",
            "LOCALHOST.",
            "bridge1.meet.example:8080",
            "pages.meet.example",
            "jvb.default.svc.cluster.local:8080",
            "ip-10-0-0-1.ec2.internal",
        ] {
            assert_eq!(judged("POST", DRAIN, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(judged("POST", DRAIN, &[]), Ok(()), "HTTP/1.0");
        let own_page =
            [("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")];
        assert_eq!(judged("POST", DRAIN, &own_page), Ok(()));
        let typed = [("host", "localhost:8080"), ("sec-fetch-site", "none")];
        assert_eq!(judged("POST", DRAIN, &typed), Ok(()));
    }

    #[test]
    fn names_of_others_do_not() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "bridge1.meet.example.evil.example",
            "printer.local",
            "user@evil.example",
            "",
            ":8080",
            "[evil.example]:8080",
        ] {
            for (method, path) in [("POST", DRAIN), ("GET", "/debug"), ("GET", "/metrics"), ("GET", "/colibri/stats")] {
                assert_eq!(judged(method, path, &[("host", host)]), Err(Refusal::Host), "{method} {path} {host}");
            }
            assert_eq!(judged("GET", "/about/health", &[("host", host)]), Ok(()), "a load balancer's name: {host}");
            assert_eq!(judged("POST", "/about/health", &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(judged("POST", DRAIN, &two), Err(Refusal::Host));
        assert_eq!(
            judged("POST", "http://evil.example/colibri/drain/enable", &[("host", "localhost")]),
            Err(Refusal::Host)
        );
    }

    #[test]
    fn pages_of_others_change_nothing() {
        for origin in ["https://evil.example", "null", "http://localhost:3000", "http://localhost", "", "file://"] {
            let fields = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(judged("POST", DRAIN, &fields), Err(Refusal::Origin), "{origin}");
            assert_eq!(judged("DELETE", DRAIN, &fields), Err(Refusal::Origin), "{origin}");
            let moves = "/move-endpoints/move-fraction?bridge=jvb1";
            assert_eq!(judged("GET", moves, &fields), Err(Refusal::Origin), "{origin}");
            // What it cannot read it may fetch.
            assert_eq!(judged("GET", "/metrics", &fields), Ok(()), "{origin}");
        }
        for site in ["cross-site", "same-site", "nonsense"] {
            let fields = [("host", "localhost:8080"), ("sec-fetch-site", site)];
            assert_eq!(judged("POST", DRAIN, &fields), Err(Refusal::Origin), "{site}");
        }
    }
}
