//! The STUN servers that an operator names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Most servers that are asked.
pub const MAX_SERVERS: usize = 8;

/// The port of STUN over UDP where none is named (RFC 8489 section 8.1).
const DEFAULT_PORT: u16 = 3478;

/// Name or address of a STUN server, and its UDP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    host: String,
    port: u16,
}

impl StunServer {
    /// Name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address where that needs no name server.
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl FromStr for StunServer {
    type Err = String;

    /// `stun.example.net:443`, `192.0.2.1`, `[2001:db8::1]:3478`; `stun:` may stand before it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a STUN server; use host:port, e.g. stun.example.net:3478");
        let bare = text.trim();
        // Before a port alone it is the name of a host.
        let scheme = bare.strip_prefix("stun:").filter(|rest| rest.parse::<u16>().is_err());
        let bare = scheme.unwrap_or(bare);
        let (host, port) = if let Some((host, rest)) = bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(wrong()),
            }
        } else {
            match bare.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') => (host, Some(port)),
                _ => (bare, None),
            }
        };
        let named = !host.is_empty()
            && host.len() <= 253
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
            None => DEFAULT_PORT,
        };
        if !named && host.parse::<IpAddr>().is_err() {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_and_without_ports() {
        for (text, shown) in [
            ("meet-jit-si-turnrelay.jitsi.net:443", "meet-jit-si-turnrelay.jitsi.net:443"),
            ("stun.example.net", "stun.example.net:3478"),
            (" 192.0.2.1:3479 ", "192.0.2.1:3479"),
            ("2001:db8::1", "[2001:db8::1]:3478"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("stun:stun.example.net:5349", "stun.example.net:5349"),
            ("stun", "stun:3478"),
            ("stun:443", "stun:443"),
            ("stun:stun", "stun:3478"),
        ] {
            assert_eq!(text.parse::<StunServer>().map(|server| server.to_string()).as_deref(), Ok(shown));
        }
        for text in ["", ":443", "a:0", "a:x", "a:70000", "https://a", "a b", "[2001:db8::1]x", "[a", "turns:a:443"] {
            let error = text.parse::<StunServer>().expect_err(text);
            assert!(error.contains("host:port"), "{error}");
        }
    }
}
