//! What a bridge says of itself at its HTTP pages.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the names of ringbridge's own metrics begin with.
const PREFIX: &str = "ringbridge_";

/// The answer to a request for a page, its head included.
pub(super) fn get(rest: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(rest)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {rest}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Values of ringbridge's own metrics, those of all workers together, by name and reason; empty where there is none.
pub(super) fn by_reason(page: &str) -> HashMap<(String, String), u64> {
    let mut sums = HashMap::new();
    for line in page.lines() {
        let Some((series, value)) = line.strip_prefix(PREFIX).and_then(|line| line.rsplit_once(' ')) else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let reason = labels.split_once("reason=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or("");
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry((name.to_owned(), reason.to_owned())).or_default() += value as u64;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_over_workers_and_kept_apart_by_reason() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE ringbridge_dropped counter\n\
            ringbridge_dropped{worker=\"0\",reason=\"shed\"} 3\nringbridge_dropped{worker=\"1\",reason=\"shed\"} 4\n\
            ringbridge_dropped{worker=\"0\",reason=\"srtp_auth\"} 1\nringbridge_syscalls{worker=\"0\"} 12\n\
            jitsi_jvb_dropped{reason=\"shed\"} 9\n";
        let sums = by_reason(page);
        let of = |name: &str, reason: &str| sums.get(&(name.to_owned(), reason.to_owned())).copied();
        assert_eq!((of("dropped", "shed"), of("dropped", "srtp_auth")), (Some(7), Some(1)));
        assert_eq!((of("syscalls", ""), sums.len()), (Some(12), 3));
    }
}
