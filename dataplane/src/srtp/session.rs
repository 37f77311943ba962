//! The two directions of one endpoint's SRTP session.

use hashbrown::HashMap;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::Ssrc;

use super::aead::{self, Aead};
use super::ctr_hmac::{self, CtrHmac};
use super::keys::{MasterKey, Origin, SrtpProfile};
use super::replay::ReplayWindow;
use super::{OpenError, SealError};

/// SSRCs whose windows are kept per endpoint; the one unheard for longest makes room.
const MAX_SSRCS: usize = 64;
/// SSRCs that made room, of which the newest index is kept: nothing of them is taken twice. When there are as many, others are
/// refused until the keys change.
const MAX_RETIRED: usize = 1024;
/// The same of a relay, by which a whole bridge publishes.
const MAX_SSRCS_OF_MANY: usize = 8_192;
/// Audio, and three encodings of video with their retransmissions.
const USUAL_SSRCS: usize = 8;

enum Cipher {
    Aead(Box<Aead>),
    CtrHmac(Box<CtrHmac>),
}

impl Serialize for Cipher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Aead(aead) => aead.origin(),
            Self::CtrHmac(ctr_hmac) => ctr_hmac.origin(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cipher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Origin { master, profile } = Origin::deserialize(deserializer)?;
        Ok(Self::new(&master, profile))
    }
}

impl Cipher {
    fn new(master: &MasterKey, profile: SrtpProfile) -> Self {
        match profile {
            SrtpProfile::AeadAes256Gcm | SrtpProfile::AeadAes128Gcm => Self::Aead(Box::new(Aead::new(master, profile))),
            SrtpProfile::Aes128CmHmacSha1_80 => Self::CtrHmac(Box::new(CtrHmac::new(master))),
        }
    }

    fn tag_len(&self) -> usize {
        match self {
            Self::Aead(_) => aead::TAG,
            Self::CtrHmac(_) => ctr_hmac::TAG,
        }
    }
}

/// An opened RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Header and plain payload, bytes.
    pub len: usize,
    /// Rollover counter and sequence number: `ROC << 16 | seq`.
    pub index: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Stream {
    ssrc: Ssrc,
    #[serde(with = "crate::carry::checked")]
    used: u64,
    window: ReplayWindow,
}

/// Streams by SSRC, bounded; room for most endpoints' at first, more when more come.
struct Streams {
    streams: Vec<Stream>,
    /// Where each SSRC stands, where there are too many to look through.
    places: Option<HashMap<Ssrc, usize, foldhash::fast::RandomState>>,
    retired: HashMap<Ssrc, u64, foldhash::fast::RandomState>,
    clock: u64,
}

/// The same on its way.
#[derive(Serialize, Deserialize)]
struct CarriedStreams {
    of_many: bool,
    #[serde(deserialize_with = "crate::carry::at_most::<_, _, MAX_SSRCS_OF_MANY>")]
    streams: Vec<Stream>,
    #[serde(deserialize_with = "crate::carry::at_most::<_, _, MAX_RETIRED>")]
    retired: Vec<(Ssrc, u64)>,
    #[serde(with = "crate::carry::checked")]
    clock: u64,
}

impl Serialize for Streams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { streams, places, retired, clock } = self;
        let mut retired: Vec<(Ssrc, u64)> = retired.iter().map(|(ssrc, newest)| (*ssrc, *newest)).collect();
        retired.sort_unstable();
        CarriedStreams { of_many: places.is_some(), streams: streams.clone(), retired, clock: *clock }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Streams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let CarriedStreams { of_many, streams, retired, clock } = CarriedStreams::deserialize(deserializer)?;
        let mut all = if of_many { Self::of_many() } else { Self::new() };
        if streams.len() > all.most() {
            return Err(D::Error::custom("more SSRCs than are kept"));
        }
        let places: HashMap<Ssrc, usize, _> =
            streams.iter().enumerate().map(|(place, stream)| (stream.ssrc, place)).collect();
        if places.len() != streams.len() {
            return Err(D::Error::custom("an SSRC has two windows"));
        }
        all.places = of_many.then_some(places);
        all.streams.extend(streams);
        all.retired.extend(retired);
        all.clock = clock;
        Ok(all)
    }
}

impl Streams {
    fn new() -> Self {
        Self { streams: Vec::with_capacity(USUAL_SSRCS), places: None, retired: HashMap::default(), clock: 0 }
    }

    fn of_many() -> Self {
        Self { places: Some(HashMap::default()), ..Self::new() }
    }

    fn most(&self) -> usize {
        if self.places.is_some() { MAX_SSRCS_OF_MANY } else { MAX_SSRCS }
    }

    #[inline(always)]
    fn place(&self, ssrc: Ssrc) -> Option<usize> {
        match &self.places {
            None => self.streams.iter().position(|stream| stream.ssrc == ssrc),
            Some(places) => Self::place_among(places, ssrc),
        }
    }

    #[inline(never)]
    fn place_among(places: &HashMap<Ssrc, usize, foldhash::fast::RandomState>, ssrc: Ssrc) -> Option<usize> {
        places.get(&ssrc).copied()
    }

    /// The window of an SSRC; `None` when there were too many others.
    #[inline]
    fn window(&self, ssrc: Ssrc) -> Option<ReplayWindow> {
        if let Some(stream) = self.place(ssrc).and_then(|place| self.streams.get(place)) {
            return Some(stream.window);
        }
        self.first_window(ssrc)
    }

    #[cold]
    fn first_window(&self, ssrc: Ssrc) -> Option<ReplayWindow> {
        match self.retired.get(&ssrc) {
            Some(newest) => Some(ReplayWindow::after(*newest)),
            None if self.streams.len() < self.most() || self.retired.len() < MAX_RETIRED => {
                Some(ReplayWindow::default())
            }
            None => None,
        }
    }

    /// Stores the advanced window; called only after the tag verified.
    fn store(&mut self, ssrc: Ssrc, window: ReplayWindow) {
        self.clock += 1;
        let used = self.clock;
        if let Some(stream) = self.place(ssrc).and_then(|place| self.streams.get_mut(place)) {
            (stream.window, stream.used) = (window, used);
            return;
        }
        self.retired.remove(&ssrc);
        let stream = Stream { ssrc, used, window };
        let mut place = self.streams.len();
        if place < self.most() {
            self.streams.push(stream);
        } else if let Some((oldest, old)) = self.streams.iter_mut().enumerate().min_by_key(|(_, stream)| stream.used) {
            let old = std::mem::replace(old, stream);
            self.retired.insert(old.ssrc, old.window.newest());
            if let Some(places) = &mut self.places {
                places.remove(&old.ssrc);
            }
            place = oldest;
        }
        if let Some(places) = &mut self.places {
            places.insert(ssrc, place);
        }
    }
}

/// Opens what one endpoint sends.
#[derive(Serialize, Deserialize)]
pub struct Opener {
    cipher: Cipher,
    rtp: Streams,
    rtcp: Streams,
}

impl Opener {
    /// Derives the session keys of the direction towards the bridge.
    pub fn new(master: &MasterKey, profile: SrtpProfile) -> Self {
        Self { cipher: Cipher::new(master, profile), rtp: Streams::new(), rtcp: Streams::new() }
    }

    /// The same for a peer by which many publish: nothing of it is forgotten for the number of their SSRCs.
    pub fn of_many(master: &MasterKey, profile: SrtpProfile) -> Self {
        Self { cipher: Cipher::new(master, profile), rtp: Streams::of_many(), rtcp: Streams::of_many() }
    }

    /// Authenticates and decrypts an RTP packet in place. `header_len` is the length of the RTP header with
    /// contributing sources and extensions.
    pub fn open_rtp(&mut self, packet: &mut [u8], header_len: usize) -> Result<Opened, OpenError> {
        let tag = self.cipher.tag_len();
        if header_len < 12 || packet.len() < header_len + tag {
            return Err(OpenError::TooShort);
        }
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = Ssrc::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let mut window = self.rtp.window(ssrc).ok_or(OpenError::TooManySsrcs)?;
        let Some(index) = window.estimate(sequence).filter(|index| window.is_fresh(*index)) else {
            return Err(OpenError::Replay);
        };
        let roc = (index >> 16) as u32;
        let verified = match &self.cipher {
            Cipher::Aead(aead) => aead.open_rtp(packet, header_len, ssrc, roc, sequence),
            Cipher::CtrHmac(ctr_hmac) => ctr_hmac.open_rtp(packet, header_len, ssrc, roc, sequence),
        };
        if !verified {
            return Err(OpenError::Auth);
        }
        window.mark(index);
        self.rtp.store(ssrc, window);
        Ok(Opened { len: packet.len() - tag, index })
    }

    /// Authenticates and decrypts an SRTCP compound packet in place; returns its plain length.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        let tag = self.cipher.tag_len();
        let Some(plain) = packet.len().checked_sub(tag + 4).filter(|plain| *plain >= 8) else {
            return Err(OpenError::TooShort);
        };
        let at = match &self.cipher {
            Cipher::Aead(_) => packet.len() - 4,
            Cipher::CtrHmac(_) => plain,
        };
        let trailer = u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let ssrc = Ssrc::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let index = u64::from(trailer & 0x7fff_ffff);
        let mut window = self.rtcp.window(ssrc).ok_or(OpenError::TooManySsrcs)?;
        if !window.is_fresh(index) {
            return Err(OpenError::Replay);
        }
        let verified = match &self.cipher {
            Cipher::Aead(aead) => aead.open_rtcp(packet, ssrc, trailer),
            Cipher::CtrHmac(ctr_hmac) => ctr_hmac.open_rtcp(packet, ssrc, trailer),
        };
        if !verified {
            return Err(OpenError::Auth);
        }
        window.mark(index);
        self.rtcp.store(ssrc, window);
        Ok(plain)
    }
}

/// Seals what the bridge sends to one endpoint.
#[derive(Serialize, Deserialize)]
pub struct Sealer {
    cipher: Cipher,
    rtcp_index: u32,
}

impl Sealer {
    /// Derives the session keys of the direction from the bridge.
    pub fn new(master: &MasterKey, profile: SrtpProfile) -> Self {
        Self { cipher: Cipher::new(master, profile), rtcp_index: 0 }
    }

    /// Seals the RTP packet in `buffer[..len]` in place and returns the new length. `roc` is the rollover counter
    /// of the packet's sequence number; the caller tracks it per outgoing SSRC, and never seals two different
    /// packets with one (SSRC, ROC, sequence number).
    pub fn seal_rtp(&self, buffer: &mut [u8], header_len: usize, len: usize, roc: u32) -> Result<usize, SealError> {
        let need = len + self.cipher.tag_len();
        if header_len < 12 || len < header_len {
            return Err(SealError::TooShort);
        }
        if buffer.len() < need {
            return Err(SealError::NoRoom { need, have: buffer.len() });
        }
        let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
        let ssrc = Ssrc::from_be_bytes([buffer[8], buffer[9], buffer[10], buffer[11]]);
        match &self.cipher {
            Cipher::Aead(aead) => {
                if !aead.seal_rtp(buffer, header_len..len, ssrc, roc, sequence) {
                    return Err(SealError::TooShort);
                }
            }
            Cipher::CtrHmac(ctr_hmac) => ctr_hmac.seal_rtp(buffer, header_len..len, ssrc, roc, sequence),
        }
        Ok(need)
    }

    /// Seals the RTCP compound packet in `buffer[..len]` in place and returns the new length.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let need = len + self.cipher.tag_len() + 4;
        if len < 8 {
            return Err(SealError::TooShort);
        }
        if buffer.len() < need {
            return Err(SealError::NoRoom { need, have: buffer.len() });
        }
        if self.rtcp_index >= 0x7fff_ffff {
            return Err(SealError::KeyUsedUp);
        }
        let ssrc = Ssrc::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
        self.rtcp_index += 1;
        match &self.cipher {
            Cipher::Aead(aead) => {
                if !aead.seal_rtcp(buffer, len, ssrc, self.rtcp_index) {
                    return Err(SealError::TooShort);
                }
            }
            Cipher::CtrHmac(ctr_hmac) => ctr_hmac.seal_rtcp(buffer, len, ssrc, self.rtcp_index),
        }
        Ok(need)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::AeadAes256Gcm, SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

    fn master() -> MasterKey {
        MasterKey { key: [7; 32], salt: [9; 14] }
    }

    fn rtp(sealer: &Sealer, ssrc: Ssrc, sequence: u16, roc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let len = packet.len();
        packet.resize(64, 0);
        let len = sealer.seal_rtp(&mut packet, 12, len, roc).unwrap();
        packet.truncate(len);
        packet
    }

    fn rtcp(sealer: &mut Sealer, ssrc: Ssrc) -> Vec<u8> {
        let mut packet = vec![0x80, 201, 0, 1, 0, 0, 0, 0];
        packet[4..8].copy_from_slice(&ssrc.to_be_bytes());
        packet.resize(64, 0);
        let len = sealer.seal_rtcp(&mut packet, 8).unwrap();
        packet.truncate(len);
        packet
    }

    #[test]
    fn nothing_is_taken_twice_however_many_ssrcs_come_between() {
        for profile in PROFILES {
            for others in [1, 63, 64, 65, 500, 1_000] {
                let (mut opener, mut sealer) = (Opener::new(&master(), profile), Sealer::new(&master(), profile));
                let first = rtp(&sealer, Ssrc::new(5), 40_000, 0);
                let old: Vec<Vec<u8>> = (1..=4).map(|step| rtp(&sealer, Ssrc::new(5), 40_000 - step, 0)).collect();
                let first_rtcp = rtcp(&mut sealer, Ssrc::new(5));
                assert_eq!(opener.open_rtp(&mut first.clone(), 12).map(|o| o.index), Ok(40_000));
                assert_eq!(opener.open_rtcp(&mut first_rtcp.clone()), Ok(8));
                for ssrc in 100..100 + others {
                    opener.open_rtp(&mut rtp(&sealer, Ssrc::new(ssrc), 1, 0), 12).unwrap();
                    opener.open_rtcp(&mut rtcp(&mut sealer, Ssrc::new(ssrc))).unwrap();
                }
                assert_eq!(opener.open_rtp(&mut first.clone(), 12), Err(OpenError::Replay), "{profile:?} {others}");
                assert_eq!(opener.open_rtcp(&mut first_rtcp.clone()), Err(OpenError::Replay), "{profile:?} {others}");
                if others >= 64 {
                    for mut packet in old {
                        let error = opener.open_rtp(&mut packet, 12);
                        assert_eq!(error, Err(OpenError::Replay), "its window is gone: older ones are refused");
                    }
                }
                // It goes on where it was, also over the roll-over.
                for (sequence, roc) in [(40_001u16, 0), (65_000, 0), (10, 1)] {
                    let index = u64::from(roc) << 16 | u64::from(sequence);
                    let opened = opener.open_rtp(&mut rtp(&sealer, Ssrc::new(5), sequence, roc), 12);
                    assert_eq!(opened.map(|o| o.index), Ok(index), "{profile:?} {others}");
                }
            }
        }
    }

    #[test]
    fn of_a_peer_by_which_many_publish_late_packets_are_taken_however_many_there_are() {
        let profile = SrtpProfile::AeadAes128Gcm;
        let (mut opener, mut sealer) = (Opener::of_many(&master(), profile), Sealer::new(&master(), profile));
        let rtp_at = |ssrc: usize, sequence| rtp(&sealer, Ssrc::new(ssrc as u32), sequence, 0);
        let order = || (0..MAX_SSRCS_OF_MANY).map(|n| n * 7 % MAX_SSRCS_OF_MANY);
        for ssrc in order() {
            assert!(opener.open_rtp(&mut rtp_at(ssrc, 100), 12).is_ok());
        }
        for ssrc in order() {
            assert!(opener.open_rtp(&mut rtp_at(ssrc, 99), 12).is_ok(), "late");
            assert_eq!(opener.open_rtp(&mut rtp_at(ssrc, 100), 12), Err(OpenError::Replay));
        }
        // One more takes the place of the one unheard for longest, of which nothing old is taken then.
        assert!(opener.open_rtp(&mut rtp_at(MAX_SSRCS_OF_MANY, 100), 12).is_ok());
        assert_eq!(opener.open_rtp(&mut rtp_at(0, 98), 12), Err(OpenError::Replay));
        assert!(opener.open_rtp(&mut rtp_at(7, 98), 12).is_ok() && opener.open_rtp(&mut rtp_at(0, 101), 12).is_ok());
        for ssrc in 0..200 {
            let first = rtcp(&mut sealer, Ssrc::new(ssrc));
            assert_eq!(opener.open_rtcp(&mut first.clone()), Ok(8));
            assert_eq!(opener.open_rtcp(&mut first.clone()), Err(OpenError::Replay));
        }
    }

    #[test]
    fn who_makes_up_ssrcs_without_end_is_refused_new_ones_and_keeps_the_old() {
        let profile = SrtpProfile::AeadAes128Gcm;
        let (mut opener, sealer) = (Opener::new(&master(), profile), Sealer::new(&master(), profile));
        let total = (MAX_SSRCS + MAX_RETIRED) as u32;
        let taken = (0..2 * total)
            .filter(|ssrc| opener.open_rtp(&mut rtp(&sealer, Ssrc::new(*ssrc), 1, 0), 12).is_ok())
            .count();
        assert_eq!(taken, total as usize);
        let error = opener.open_rtp(&mut rtp(&sealer, Ssrc::new(total + 1), 2, 0), 12);
        assert_eq!(error, Err(OpenError::TooManySsrcs));
        for ssrc in 0..total {
            assert!(opener.open_rtp(&mut rtp(&sealer, Ssrc::new(ssrc), 2, 0), 12).is_ok(), "{ssrc}");
            assert_eq!(opener.open_rtp(&mut rtp(&sealer, Ssrc::new(ssrc), 1, 0), 12), Err(OpenError::Replay), "{ssrc}");
        }
    }
}
