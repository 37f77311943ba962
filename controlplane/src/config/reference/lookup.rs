//! Keys of other programs by their paths.

use strsim::osa_distance;

use super::uses::Use;
use super::{jicofo, videobridge};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Product {
    /// Jitsi Videobridge.
    Videobridge,
    /// Jicofo.
    Jicofo,
}

impl Product {
    /// Both references.
    pub const ALL: [Self; 2] = [Self::Videobridge, Self::Jicofo];

    /// Whose a key or a section is, if it is none of ours.
    pub fn of(path: &str) -> Option<Self> {
        let section = path.split('.').next().unwrap_or_default();
        Self::ALL.into_iter().find(|product| product.sections().contains(&section))
    }

    /// Sections of its file: a file that has one of them is taken for its.
    pub fn sections(self) -> &'static [&'static str] {
        match self {
            Self::Videobridge => &["videobridge", "ice4j", "jmt"],
            Self::Jicofo => &["jicofo", "tracing"],
        }
    }

    /// Keys, or beginnings of keys that end in a dot; the longest that fits counts.
    fn uses(self) -> &'static [(&'static str, Use)] {
        match self {
            Self::Videobridge => videobridge::USES,
            Self::Jicofo => jicofo::USES,
        }
    }

    /// What is said of keys that neither it nor we have.
    fn unknown(self) -> &'static str {
        match self {
            Self::Videobridge => "unknown to this bridge and, as far as is known, to Jitsi Videobridge",
            Self::Jicofo => "unknown to this focus and, as far as is known, to Jicofo",
        }
    }
}

/// What becomes of a key; the error names what was most likely meant.
pub(in crate::config) fn find(path: &str) -> Result<Use, &'static str> {
    let Some(product) = Product::of(path) else { return Ok(Use::Ignored("unknown to this program")) };
    let uses = product.uses();
    let fits = |(known, _): &&(&str, Use)| {
        path == *known || (known.ends_with('.') && path.len() > known.len() && path.starts_with(known))
    };
    if let Some((known, found)) = uses.iter().filter(fits).max_by_key(|(known, _)| known.len()) {
        // A misspelt key must not hide behind a section that is ignored as a whole.
        let near =
            uses.iter().find(|(exact, _)| !exact.ends_with('.') && *exact != path && osa_distance(exact, path) <= 2);
        return match near {
            Some((exact, Use::Key(_) | Use::Special | Use::Only(..)))
                if *known != path && exact.starts_with(parent(path)) =>
            {
                Err(exact)
            }
            _ => Ok(*found),
        };
    }
    let near = uses.iter().min_by_key(|(known, _)| osa_distance(known, path)).map(|(known, _)| *known);
    match near {
        Some(near) if osa_distance(near, path) <= path.len() / 4 => Err(near),
        _ => Ok(Use::Ignored(product.unknown())),
    }
}

/// Whether the value of a key, as it was written or as it was meant, is nobody else's business.
pub(in crate::config) fn is_secret(path: &str) -> bool {
    const PARTS: &[&str] = &["password", "pasword", "passwd", "secret", "token", "http-headers", "credential"];
    let path = path.to_ascii_lowercase();
    PARTS.iter().any(|part| path.contains(part))
}

/// The section of a path, with its dot.
fn parent(path: &str) -> &str {
    path.rfind('.').map_or("", |dot| &path[..=dot])
}

#[cfg(test)]
mod tests {
    use super::Use::{Ignored, Key, Only, Special};
    use super::*;
    use crate::config::keys;

    #[test]
    fn keys_that_are_named_exist() {
        for (path, found) in Product::ALL.into_iter().flat_map(Product::uses) {
            if let Key(own) = found {
                assert!(keys::Key::find(own).is_some(), "{path} is {own}");
            }
            assert!(Product::of(path).is_some(), "{path}");
        }
    }

    #[test]
    fn the_most_exact_row_counts() {
        assert_eq!(find("videobridge.ice.udp.port"), Ok(Key("bridge.port")));
        assert_eq!(find("videobridge.rest.shutdown.enabled"), Ok(Key("bridge.shutdown.over-rest")));
        assert!(matches!(find("videobridge.rest.debug.enabled"), Ok(Ignored(why)) if why.contains("always served")));
        assert_eq!(find("videobridge.apis.xmpp-client.configs.shard1.HOSTNAME"), Ok(Special));
        assert!(matches!(find("jmt.bwe.estimator.engine"), Ok(Ignored(_))));
        assert!(matches!(find("videobridge.something.of.tomorrow"), Ok(Ignored(_))));
        assert_eq!(find("jicofo.bridge.brewery-jid"), Ok(Key("brewery")));
        assert_eq!(find("jicofo.xmpp.service.hostname"), Ok(Special));
        assert_eq!(find("jicofo.xmpp.visitors.v0.password"), Ok(Special));
        assert_eq!(find("jicofo.visitors.max-participants"), Ok(Key("focus.visitors.max-participants")));
        assert!(matches!(find("jicofo.something.of.tomorrow"), Ok(Ignored(why)) if why.contains("Jicofo")));
        assert!(matches!(find("jicofo.conference.min-participants"), Ok(Key(_))));
    }

    #[test]
    fn misspelt_keys_are_recognised() {
        assert_eq!(find("videobridge.ice.udp.prot"), Err("videobridge.ice.udp.port"));
        assert_eq!(find("videobridge.websockets.enabeld"), Err("videobridge.websockets.enabled"));
        assert_eq!(find("videobridge.http-servers.private.prot"), Err("videobridge.http-servers.private.port"));
        assert_eq!(find("jicofo.xmpp.client.hostnmae"), Err("jicofo.xmpp.client.hostname"));
        assert_eq!(find("jicofo.bridge.brewery-jud"), Err("jicofo.bridge.brewery-jid"));
        assert_eq!(find("jicofo.conference.initial-timout"), Err("jicofo.conference.initial-timeout"));
        assert_eq!(find("jicofo.rest.prot"), Err("jicofo.rest.port"));
    }

    #[test]
    fn what_cannot_be_passed_over_says_why() {
        for (path, found) in Product::ALL.into_iter().flat_map(Product::uses) {
            if let Only(values, why) = found {
                assert!(!values.is_empty() && why.len() > 20 && !path.ends_with('.'), "{path}");
            }
        }
    }

    #[test]
    fn secrets() {
        for path in [
            "jicofo.xmpp.client.password",
            "jicofo.xmpp.client.pasword",
            "jicofo.transcription.http-headers.Authorization",
            "jicofo.translation.http-headers.CF-Access-Client-Secret",
            "jicofo.some.Token",
        ] {
            assert!(is_secret(path), "{path}");
        }
        assert!(!is_secret("jicofo.xmpp.client.username"));
    }
}
