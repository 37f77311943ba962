//! Generic NACK (RFC 4585 section 6.2.1): a sequence number and a bit mask of the sixteen after it.

/// The sequence numbers that the entries ask for.
pub fn sequences(entries: &[u8]) -> impl Iterator<Item = u16> + '_ {
    entries.chunks_exact(4).flat_map(|entry| {
        let first = u16::from_be_bytes([entry[0], entry[1]]);
        let mask = u16::from_be_bytes([entry[2], entry[3]]);
        std::iter::once(first)
            .chain((0..16u16).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit + 1)))
    })
}

/// How many numbers one entry asks for.
pub fn count(entry: &[u8]) -> u32 {
    entry.get(2..4).map_or(1, |mask| 1 + mask.iter().map(|byte| byte.count_ones()).sum::<u32>())
}

/// Writes entries for ascending `missing` into `out`; returns the bytes written, stopping when `out` is full.
pub fn write_entries(missing: &[u16], out: &mut [u8]) -> usize {
    let mut at = 0;
    let mut rest = missing;
    while let Some((&first, mut after)) = rest.split_first() {
        let mut mask = 0u16;
        while let Some((&next, more)) = after.split_first() {
            let distance = next.wrapping_sub(first);
            if !(1..=16).contains(&distance) {
                break;
            }
            mask |= 1 << (distance - 1);
            after = more;
        }
        let Some(entry) = out.get_mut(at..at + 4) else { break };
        entry[..2].copy_from_slice(&first.to_be_bytes());
        entry[2..].copy_from_slice(&mask.to_be_bytes());
        at += 4;
        rest = after;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(start in any::<u16>(), gaps in proptest::collection::vec(1u16..40, 0..40)) {
            let mut sequence = start;
            let mut missing = vec![];
            for gap in gaps {
                missing.push(sequence);
                sequence = sequence.wrapping_add(gap);
            }
            let mut out = [0; 4 * 64];
            let len = write_entries(&missing, &mut out);
            prop_assert_eq!(out[..len].chunks(4).map(count).sum::<u32>() as usize, missing.len());
            prop_assert_eq!(sequences(&out[..len]).collect::<Vec<_>>(), missing);
        }
    }
}
