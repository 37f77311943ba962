//! The picture height in an H264 sequence parameter set (ITU-T H.264, section 7.3.2.1.1).

/// Profiles whose parameter sets have a chroma format.
const HIGH: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// Scaling lists and frames of an order cycle beyond what the standard allows end the search.
const MAX_CYCLE: u32 = 255;

/// Height in pixels, cropping counted; `None` where the unit is no whole sequence parameter set.
pub fn height(unit: &[u8]) -> Option<u16> {
    let (first, rest) = unit.split_first()?;
    if first & 0x1f != 7 {
        return None;
    }
    let mut bits = Bits { rest, byte: 0, left: 0, zeros: 0 };
    let profile = bits.read(8)?;
    bits.read(16)?;
    bits.unsigned()?;
    let mut chroma = 1;
    if HIGH.contains(&profile) {
        chroma = bits.unsigned()?;
        if chroma == 3 {
            bits.read(1)?;
        }
        bits.unsigned()?;
        bits.unsigned()?;
        bits.read(1)?;
        if bits.read(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.read(1)? == 1 {
                    bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.unsigned()?;
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?;
        }
        1 => {
            bits.read(1)?;
            bits.unsigned()?;
            bits.unsigned()?;
            let cycle = bits.unsigned().filter(|cycle| *cycle <= MAX_CYCLE)?;
            for _ in 0..cycle {
                bits.unsigned()?;
            }
        }
        _ => {}
    }
    bits.unsigned()?;
    bits.read(1)?;
    bits.unsigned()?;
    let units = bits.unsigned()?.checked_add(1)?;
    let fields = 2 - bits.read(1)?;
    if fields == 2 {
        bits.read(1)?;
    }
    bits.read(1)?;
    let mut cropped = 0u32;
    if bits.read(1)? == 1 {
        bits.unsigned()?;
        bits.unsigned()?;
        let lines = bits.unsigned()?.checked_add(bits.unsigned()?)?;
        cropped = lines.checked_mul(fields * if chroma == 1 { 2 } else { 1 })?;
    }
    let height = units.checked_mul(16 * fields)?.checked_sub(cropped)?;
    u16::try_from(height).ok().filter(|height| *height > 0)
}

/// Reads bits, most significant first, without the bytes that keep start codes out (section 7.4.1).
struct Bits<'a> {
    rest: &'a [u8],
    byte: u8,
    left: u32,
    zeros: u32,
}

impl Bits<'_> {
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            if self.left == 0 {
                self.next_byte()?;
            }
            self.left -= 1;
            value = value << 1 | u32::from(self.byte >> self.left & 1);
        }
        Some(value)
    }

    fn next_byte(&mut self) -> Option<()> {
        let (mut byte, mut rest) = self.rest.split_first()?;
        if self.zeros >= 2 && *byte == 3 {
            (byte, rest) = rest.split_first()?;
            self.zeros = 0;
        }
        self.zeros = if *byte == 0 { self.zeros + 1 } else { 0 };
        (self.byte, self.rest, self.left) = (*byte, rest, 8);
        Some(())
    }

    /// `ue(v)`; signed values take as many bits.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.read(zeros)?)
    }

    fn skip_scaling_list(&mut self, size: u32) -> Option<()> {
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..size {
            if next != 0 {
                let code = i64::from(self.unsigned()?);
                let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Chromium's, recorded: 160x90 and 320x180, coded as 96 and 192 lines.
    const LOW: [u8; 18] =
        [0x67, 0x42, 0xc0, 0x0c, 0x8c, 0x8d, 0x71, 0x46, 0xbc, 0x93, 0x50, 0x60, 0x60, 0x60, 0x78, 0x44, 0x23, 0x70];
    const HIGH: [u8; 19] =
        [0x67, 0x42, 0xc0, 0x15, 0x8c, 0x8d, 0x70, 0xa0, 0xcb, 0xcf, 0x35, 0x06, 0x06, 0x06, 0x07, 0x84, 0x42, 0x37, 0];

    #[test]
    fn heights_of_recorded_sets() {
        assert_eq!((height(&LOW), height(&HIGH)), (Some(90), Some(180)));
        // x264's high profile at 1920x1080, with start-code protection in its level and timing.
        let high = [0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03];
        assert_eq!(height(&high), Some(1080));
        assert_eq!(height(&LOW[..8]), None, "cut");
        assert_eq!(height(&[0x65, 1, 2, 3]), None, "no set");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(mut unit in proptest::collection::vec(any::<u8>(), 1..80)) {
            unit[0] = unit[0] & 0xe0 | 7;
            let _ = height(&unit);
            unit.splice(1..1, [100, 0, 40]);
            let _ = height(&unit);
        }
    }
}
