//! A relay that has keys and misbehaves harms nobody; what it does and what must hold is said in `faulty_relay`.

mod faulty_relay;
mod forward_call;
mod relay_call;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_faulty_relay_harms_nobody(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        faulty_relay::run(&bytes);
    }
}
