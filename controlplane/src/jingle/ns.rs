//! Namespaces.

/// Jingle (XEP-0166).
pub const JINGLE: &str = "urn:xmpp:jingle:1";
/// RTP sessions (XEP-0167).
pub const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
/// Header extensions (XEP-0294).
pub const HDREXT: &str = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0";
/// Grouping (XEP-0338).
pub const GROUPING: &str = "urn:xmpp:jingle:apps:grouping:0";
/// Jitsi Meet.
pub const JITMEET: &str = "http://jitsi.org/jitmeet";
/// The focus.
pub const FOCUS: &str = "http://jitsi.org/protocol/focus";
/// SCTP over DTLS (XEP-0343).
pub const SCTPMAP: &str = "urn:xmpp:jingle:transports:dtls-sctp:1";
/// Muted at start.
pub const START_MUTED: &str = "http://jitsi.org/jitmeet/start-muted";
