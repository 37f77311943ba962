//! Namespaces of colibri2 and of the elements that it carries.

/// colibri2.
pub const COLIBRI2: &str = "jitsi:colibri2";
/// The first colibri: `<stats>` in presence, `<web-socket>` in transports.
pub const COLIBRI: &str = "http://jitsi.org/protocol/colibri";
/// Jingle ICE-UDP (XEP-0176).
pub const ICE_UDP: &str = "urn:xmpp:jingle:transports:ice-udp:1";
/// DTLS-SRTP in Jingle (XEP-0320).
pub const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
/// Jingle RTP (XEP-0167).
pub const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
/// RTCP feedback (XEP-0293).
pub const RTCP_FB: &str = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0";
/// RTP header extensions (XEP-0294).
pub const RTP_HDREXT: &str = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0";
/// What our focus and our bridge say to each other alone.
pub const RINGBRIDGE: &str = "urn:ringbridge:colibri:0";
/// Source-specific media attributes (XEP-0339).
pub const SSMA: &str = "urn:xmpp:jingle:apps:rtp:ssma:0";
