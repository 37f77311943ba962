//! What copying and sealing cost alone: the part of the floor that no kernel can take away.

use std::time::{Duration, Instant};

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ringbridge_dataplane::srtp::{MasterKey, SrtpProfile};
use ringbridge_dataplane::srtp::{Opener, Sealer};

/// Keys that take turns, as receivers do.
const KEYS: usize = 50;
/// Buffers that take turns, as slots of a worker's output do: more than the first-level cache holds.
const BUFFERS: usize = 2048;
const STRIDE: usize = 1536;
/// Bytes of an RTP header.
const HEADER: usize = 12;
/// Length of one measurement.
const MEASURE: Duration = Duration::from_millis(40);

/// Nanoseconds per packet; no number where a packet could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct CryptoCost {
    /// Bytes of payload.
    pub payload: usize,
    /// Copy of one packet into the next buffer.
    pub copy: f64,
    /// AES-128-GCM by `ring`, nothing around it.
    pub seal_aes128_gcm: f64,
    /// AES-256-GCM by `ring`, nothing around it.
    pub seal_aes256_gcm: f64,
    /// AES_CM_128_HMAC_SHA1_80 by ringbridge.
    pub seal_aes128_cm_sha1: f64,
    /// Opening an AES-128-GCM packet by ringbridge, replay check included.
    pub open_aes128_gcm: f64,
}

impl CryptoCost {
    /// Sealing under a profile.
    pub fn seal(&self, profile: SrtpProfile) -> f64 {
        match profile {
            SrtpProfile::AeadAes256Gcm => self.seal_aes256_gcm,
            SrtpProfile::AeadAes128Gcm => self.seal_aes128_gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => self.seal_aes128_cm_sha1,
        }
    }
}

fn master(i: usize) -> MasterKey {
    MasterKey { key: [i as u8 + 1; 32], salt: [3; 14] }
}

/// Runs `work` on packet after packet; nanoseconds each.
fn time(mut work: impl FnMut(usize)) -> f64 {
    let (mut n, start) = (0usize, Instant::now());
    loop {
        for _ in 0..256 {
            work(n);
            n += 1;
        }
        let elapsed = start.elapsed();
        if elapsed >= MEASURE {
            return elapsed.as_nanos() as f64 / n as f64;
        }
    }
}

fn aead(algorithm: &'static ring::aead::Algorithm, payload: usize) -> f64 {
    let key = |i: usize| UnboundKey::new(algorithm, &[i as u8 + 1; 32][..algorithm.key_len()]).map(LessSafeKey::new);
    let Ok(keys) = (0..KEYS).map(key).collect::<Result<Vec<_>, _>>() else { return f64::NAN };
    let mut buffers = vec![0u8; BUFFERS * STRIDE];
    time(|n| {
        let buffer = &mut buffers[n % BUFFERS * STRIDE..][..HEADER + payload + 16];
        let (header, rest) = buffer.split_at_mut(HEADER);
        let (body, tag_room) = rest.split_at_mut(payload);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(n as u64).to_be_bytes());
        let sealed =
            keys[n % KEYS].seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), body);
        if let Ok(tag) = sealed {
            tag_room.copy_from_slice(tag.as_ref());
        }
    })
}

/// Measures on the calling thread.
pub fn measure(payload: usize) -> CryptoCost {
    let mut buffers = vec![0u8; BUFFERS * STRIDE];
    let packet = vec![0x80u8; HEADER + payload];
    let copy = time(|n| {
        let buffer = &mut buffers[n % BUFFERS * STRIDE..][..packet.len()];
        buffer.copy_from_slice(std::hint::black_box(&packet));
        std::hint::black_box(buffer);
    });
    let sealers: Vec<_> = (0..KEYS).map(|i| Sealer::new(&master(i), SrtpProfile::Aes128CmHmacSha1_80)).collect();
    let mut failed = false;
    let seal_aes128_cm_sha1 = time(|n| {
        let buffer = &mut buffers[n % BUFFERS * STRIDE..][..STRIDE];
        buffer[..2].copy_from_slice(&[0x80, 96]);
        buffer[2..4].copy_from_slice(&(n as u16).to_be_bytes());
        failed |= sealers[n % KEYS].seal_rtp(buffer, HEADER, HEADER + payload, (n >> 16) as u32).is_err();
    });
    CryptoCost {
        payload,
        copy,
        seal_aes128_gcm: aead(&AES_128_GCM, payload),
        seal_aes256_gcm: aead(&AES_256_GCM, payload),
        seal_aes128_cm_sha1: if failed { f64::NAN } else { seal_aes128_cm_sha1 },
        open_aes128_gcm: open(payload),
    }
}

/// Opening needs packets sealed beforehand: they are opened once each.
fn open(payload: usize) -> f64 {
    let profile = SrtpProfile::AeadAes128Gcm;
    let sealer = Sealer::new(&master(0), profile);
    let mut opener = Opener::new(&master(0), profile);
    let mut packets = vec![0u8; BUFFERS * STRIDE];
    let mut lens = [0; BUFFERS];
    for (n, packet) in packets.chunks_exact_mut(STRIDE).enumerate() {
        packet[..2].copy_from_slice(&[0x80, 96]);
        packet[2..4].copy_from_slice(&(n as u16 + 1).to_be_bytes());
        lens[n] = sealer.seal_rtp(packet, HEADER, HEADER + payload, 0).unwrap_or(0);
    }
    let (start, mut failed) = (Instant::now(), false);
    for (packet, len) in packets.chunks_exact_mut(STRIDE).zip(lens) {
        failed |= std::hint::black_box(opener.open_rtp(&mut packet[..len], HEADER)).is_err();
    }
    let nanos = start.elapsed().as_nanos() as f64 / BUFFERS as f64;
    if failed { f64::NAN } else { nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_measured_fails_or_is_free() {
        for cost in [100, 1_200].map(measure) {
            let all =
                [cost.copy, cost.seal_aes128_gcm, cost.seal_aes256_gcm, cost.seal_aes128_cm_sha1, cost.open_aes128_gcm];
            assert!(all.iter().all(|nanos| *nanos > 0.0 && nanos.is_finite()), "{cost:?}");
        }
    }
}
