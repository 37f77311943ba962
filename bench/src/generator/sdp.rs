//! The little SDP that the benchmark's clients and its peers exchange (RFC 8866, RFC 8839, RFC 8842): one bundled
//! transport, candidates inline.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use ringbridge_controlplane::transport::{DtlsRole, Fingerprint};
use ringbridge_dataplane::media::MediaKind;

use super::media_numbers::Numbers;
use crate::media::Codec;

/// Why a peer's description is of no use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SdpError {
    /// A line that every description must have.
    #[error("the peer's SDP has no {0}")]
    Missing(&'static str),
}

/// What a description says of the other side's transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// ICE user fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Whether it only answers checks.
    pub lite: bool,
    /// UDP candidates on IPv4.
    pub candidates: Vec<SocketAddrV4>,
    /// Its certificate's fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// Our role in DTLS.
    pub role: DtlsRole,
    /// Media sections in order: media, mid, first payload type, whether the section has a data channel.
    pub sections: Vec<Section>,
}

/// One media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `audio`, `video` or `application`.
    pub media: String,
    /// The rest of the m-line after the port.
    pub formats: String,
    /// Its `mid`.
    pub mid: String,
    /// Payload types, extension ids and codecs, kept as they are for the answer.
    pub attributes: Vec<String>,
}

/// Reads a description.
pub fn parse(sdp: &str) -> Result<Remote, SdpError> {
    let mut remote = Remote {
        ufrag: String::new(),
        pwd: String::new(),
        lite: false,
        candidates: Vec::new(),
        fingerprints: Vec::new(),
        role: DtlsRole::Server,
        sections: Vec::new(),
    };
    for line in sdp.lines().map(str::trim_end) {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.splitn(3, ' ');
            let (media, _port) = (words.next().unwrap_or(""), words.next());
            let formats = words.next().unwrap_or("").to_owned();
            remote.sections.push(Section {
                media: media.to_owned(),
                formats,
                mid: String::new(),
                attributes: Vec::new(),
            });
            continue;
        }
        let Some(attribute) = line.strip_prefix("a=") else { continue };
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            // With BUNDLE all sections say the same; the first counts.
            "ice-ufrag" if remote.ufrag.is_empty() => value.clone_into(&mut remote.ufrag),
            "ice-pwd" if remote.pwd.is_empty() => value.clone_into(&mut remote.pwd),
            "ice-lite" => remote.lite = true,
            "candidate" => remote.candidates.extend(candidate(value).filter(|c| !remote.candidates.contains(c))),
            "fingerprint" => {
                if let Some((hash, digest)) = value.split_once(' ') {
                    let fingerprint = Fingerprint { hash: hash.to_owned(), value: digest.to_owned() };
                    if !remote.fingerprints.contains(&fingerprint) {
                        remote.fingerprints.push(fingerprint);
                    }
                }
            }
            // Ours is the other one; to an offer of both we answer `active`.
            "setup" => remote.role = if value == "active" { DtlsRole::Server } else { DtlsRole::Client },
            _ => {}
        }
        if let Some(section) = remote.sections.last_mut() {
            match name {
                "mid" => value.clone_into(&mut section.mid),
                "rtpmap" | "fmtp" | "rtcp-fb" | "extmap" | "sctp-port" | "sctpmap" => {
                    section.attributes.push(attribute.to_owned());
                }
                _ => {}
            }
        }
    }
    for (value, what) in [(&remote.ufrag, "ice-ufrag"), (&remote.pwd, "ice-pwd")] {
        if value.is_empty() {
            return Err(SdpError::Missing(what));
        }
    }
    if remote.fingerprints.is_empty() {
        return Err(SdpError::Missing("fingerprint"));
    }
    if remote.candidates.is_empty() {
        return Err(SdpError::Missing("UDP candidate on IPv4"));
    }
    Ok(remote)
}

fn candidate(value: &str) -> Option<SocketAddrV4> {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let [_, "1", protocol, _, ip, port, ..] = words[..] else { return None };
    let address = SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?);
    match address {
        SocketAddr::V4(v4) if protocol.eq_ignore_ascii_case("udp") => Some(v4),
        _ => None,
    }
}

/// Our side of a transport.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// ICE user fragment.
    pub ufrag: &'a str,
    /// ICE password.
    pub pwd: &'a str,
    /// The client's address.
    pub address: SocketAddrV4,
    /// SHA-256 of the certificate.
    pub fingerprint: &'a str,
}

fn session(out: &mut String, mids: &[String]) {
    let _ = write!(
        out,
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=msid-semantic: WMS *\r\n",
        mids.join(" ")
    );
}

fn transport(out: &mut String, local: &Local<'_>, setup: &str) {
    let _ = write!(
        out,
        "c=IN IP4 {ip}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n\
         a=rtcp-mux\r\na=candidate:1 1 udp 2130706431 {ip} {} typ host\r\na=end-of-candidates\r\n",
        local.ufrag,
        local.pwd,
        local.fingerprint,
        local.address.port(),
        ip = local.address.ip(),
    );
}

/// The offer of a publisher: one section for each of its streams (codec, SSRC).
pub fn offer(local: &Local<'_>, numbers: &Numbers, streams: &[(Codec, u32)]) -> String {
    let streams: Vec<_> = streams.iter().map(|(codec, ssrc)| (*codec, Some(*ssrc))).collect();
    offer_of(local, numbers, &streams)
}

/// The offer of a subscriber, for peers whose subscribers offer: one section for each stream that it wants.
pub fn offer_to_receive(local: &Local<'_>, numbers: &Numbers, codecs: &[Codec]) -> String {
    let streams: Vec<_> = codecs.iter().map(|codec| (*codec, None)).collect();
    offer_of(local, numbers, &streams)
}

/// One section for each stream; those without an SSRC are received.
fn offer_of(local: &Local<'_>, numbers: &Numbers, streams: &[(Codec, Option<u32>)]) -> String {
    let mut out = String::new();
    session(&mut out, &(0..streams.len()).map(|mid| mid.to_string()).collect::<Vec<_>>());
    for (mid, (codec, ssrc)) in streams.iter().enumerate() {
        let media = if codec.kind() == MediaKind::Audio { "audio" } else { "video" };
        let pt = numbers.payload_type(*codec);
        let channels = if codec.channels() > 1 { "/2" } else { "" };
        let direction = if ssrc.is_some() { "sendonly" } else { "recvonly" };
        let _ = write!(out, "m={media} {} UDP/TLS/RTP/SAVPF {pt}\r\n", local.address.port());
        transport(&mut out, local, "actpass");
        let _ = write!(
            out,
            "a=mid:{mid}\r\na={direction}\r\na=rtpmap:{pt} {}/{}{channels}\r\n",
            codec.name(),
            codec.clock_rate()
        );
        if codec.kind() == MediaKind::Video {
            let _ = write!(out, "a=rtcp-fb:{pt} nack\r\na=rtcp-fb:{pt} nack pli\r\n");
        }
        let _ = write!(out, "a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid\r\n", numbers.mid);
        if let Some(ssrc) = ssrc {
            let _ = write!(
                out,
                "a=msid:bench {media}\r\na=ssrc:{ssrc} cname:bench\r\na=ssrc:{ssrc} msid:bench {media}\r\n"
            );
        }
    }
    out
}

/// The answer of a subscriber: takes everything as offered.
pub fn answer(local: &Local<'_>, offer: &Remote) -> String {
    let mut out = String::new();
    session(&mut out, &offer.sections.iter().map(|section| section.mid.clone()).collect::<Vec<_>>());
    for section in &offer.sections {
        let _ = write!(out, "m={} {} {}\r\n", section.media, local.address.port(), section.formats);
        transport(&mut out, local, if offer.role == DtlsRole::Client { "active" } else { "passive" });
        let direction = if section.media == "application" { "" } else { "a=recvonly\r\n" };
        let _ = write!(out, "a=mid:{}\r\n{direction}", section.mid);
        for attribute in &section.attributes {
            let _ = write!(out, "a={attribute}\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local<'static> {
        Local {
            ufrag: "abcd",
            pwd: "0123456789012345678901",
            address: "127.1.0.1:5000".parse().unwrap(),
            fingerprint: "AB:CD",
        }
    }

    #[test]
    fn an_offer_and_its_answer_read_back() {
        let text = offer(&local(), &Numbers::USUAL, &[(Codec::Vp8, 7), (Codec::Opus, 8)]);
        let remote = parse(&text).unwrap();
        assert_eq!((remote.ufrag.as_str(), remote.candidates.len(), remote.lite), ("abcd", 1, false));
        assert_eq!(remote.role, DtlsRole::Client);
        assert_eq!(remote.sections.iter().map(|s| s.media.as_str()).collect::<Vec<_>>(), ["video", "audio"]);
        let back = parse(&answer(&local(), &remote)).unwrap();
        assert_eq!(back.role, DtlsRole::Server, "the answer was active");
        assert_eq!(back.sections[1].mid, "1");
        assert!(back.sections[0].attributes.iter().any(|a| a == "rtpmap:96 VP8/90000"));
    }

    #[test]
    fn an_offer_to_receive_sends_nothing() {
        let text = offer_to_receive(&local(), &Numbers::USUAL, &[Codec::Vp8, Codec::Opus]);
        assert_eq!(text.matches("a=recvonly").count(), 2);
        assert!(!text.contains("ssrc") && !text.contains("msid:bench") && !text.contains("sendonly"), "{text}");
        let remote = parse(&text).unwrap();
        assert_eq!(remote.sections.iter().map(|s| s.mid.as_str()).collect::<Vec<_>>(), ["0", "1"]);
        assert!(remote.sections[1].attributes.iter().any(|a| a == "rtpmap:111 opus/48000/2"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse("v=0"), Err(SdpError::Missing("ice-ufrag")));
        let text = offer(&local(), &Numbers::USUAL, &[(Codec::Vp8, 7)]).replace("udp", "tcp");
        assert_eq!(parse(&text), Err(SdpError::Missing("UDP candidate on IPv4")));
    }
}
