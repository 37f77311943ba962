//! States as somebody may have made them up: refused, or gone on with, but never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_dataplane::carry::State;

use crate::meeting::{import, recorded, use_it};

/// States with changed bytes.
const ATTEMPTS: u64 = 300;

#[test]
fn no_change_of_a_states_bytes_makes_a_forwarder_panic() {
    let (state, now, later) = recorded();
    use_it(import(&state).expect("what was written is read"), now, &later);
    let mut taken = 0;
    for seed in 0..ATTEMPTS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = state.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = match random.random_range(0..4) {
                0 => random.random(),
                1 => bytes[at].wrapping_add(1),
                2 => bytes[at] ^ 1 << random.random_range(0..8),
                _ => [0, 0x7f, 0x80, 0xff][random.random_range(0..4)],
            };
        }
        let state = State::from_bytes(bytes);
        let outcome =
            catch_unwind(AssertUnwindSafe(|| import(&state).map(|forwarder| use_it(forwarder, now, &later)).is_some()));
        match outcome {
            Ok(went_on) => taken += u32::from(went_on),
            Err(panic) => {
                eprintln!("seed {seed}");
                resume_unwind(panic)
            }
        }
    }
    assert!((ATTEMPTS as u32 / 10..ATTEMPTS as u32).contains(&taken), "{taken} of {ATTEMPTS} were gone on with");
}

#[test]
fn no_part_of_a_state_is_taken_for_one() {
    let (state, ..) = recorded();
    let bytes = state.as_bytes();
    for len in (0..bytes.len()).step_by(23).chain([bytes.len() - 1]) {
        assert!(import(&State::from_bytes(bytes[..len].to_vec())).is_none(), "{len} of {} bytes", bytes.len());
    }
    assert!(import(&State::from_bytes([bytes, &[0]].concat())).is_none(), "a byte too many");
}

/// A number of entries that is not followed by as many must not take memory for them.
#[test]
fn lengths_are_not_believed() {
    let (state, ..) = recorded();
    for at in (0..state.as_bytes().len()).step_by(211) {
        let mut bytes = state.as_bytes().to_vec();
        bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x7f]);
        let _ = import(&State::from_bytes(bytes));
    }
}
