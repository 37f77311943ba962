//! Feedback made up by a receiver: whatever it says, nothing overflows and the estimate stays within its bounds.

use proptest::prelude::*;
use ringbridge_dataplane::clock::WorkerTime;
use ringbridge_dataplane::congestion::estimator::probe::Cluster;
use ringbridge_dataplane::congestion::estimator::{Bounds, Estimator};
use ringbridge_dataplane::congestion::prober::Prober;
use ringbridge_dataplane::media::Bitrate;
use ringbridge_dataplane::rtcp::Feedback;

fn at(micros: u64) -> WorkerTime {
    WorkerTime::from_micros(micros)
}

fn within(estimator: &Estimator, bounds: Bounds) -> bool {
    let (estimate, budget) = (estimator.estimate(), estimator.budget());
    estimate <= bounds.max() && budget <= estimate && (0.0..=1.0).contains(&estimator.loss())
}

/// One feedback packet: base, reference, chunks and deltas as they come.
fn body(base: u16, count: u16, reference: u32, rest: &[u8]) -> Vec<u8> {
    [&base.to_be_bytes()[..], &count.to_be_bytes(), &reference.to_be_bytes()[1..], &[0], rest].concat()
}

#[test]
fn times_that_leap_for_years_end_somewhere() {
    for leap in [(1u32 << 23) - 1, 1 << 23, (1 << 23) + 1, 1, 0] {
        let bounds = Bounds::default();
        let mut estimator = Estimator::new(bounds);
        let (mut now, mut reference) = (0u64, 0u32);
        for i in 0..200_000u32 {
            now += 1_000;
            let base = estimator.next_sequence();
            estimator.note_sent(at(now), 1_200, 0);
            estimator.note_sent(at(now + 1), 65_535, 0);
            reference = reference.wrapping_add(leap) & 0xff_ffff;
            // Both received: now and then with a negative step of eight seconds.
            let rest: &[u8] = if i % 3 == 0 { &[0xd4, 0, 4, 0x80, 0] } else { &[0x20, 2, 4, 4] };
            let body = body(base, 2, reference, rest);
            estimator.feedback(at(now + 500), &Feedback::parse(&body).unwrap());
            assert!(within(&estimator, bounds), "after {i} of {leap}");
        }
    }
}

#[test]
fn numbers_that_were_never_sent_are_counted() {
    let mut estimator = Estimator::new(Bounds::default());
    for micros in 0..3 {
        estimator.note_sent(at(micros), 1_200, 0);
    }
    // 1 to 3 were sent; 2 to 5 are reported as received.
    let reported = body(2, 4, 0, &[0x20, 4, 4, 4, 4, 4]);
    assert_eq!(estimator.feedback(at(9_000), &Feedback::parse(&reported).expect("feedback")).unmatched, 2);
    let again = body(2, 2, 0, &[0x20, 2, 4, 4]);
    assert_eq!(estimator.feedback(at(9_500), &Feedback::parse(&again).expect("feedback")).unmatched, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_feedback_is_taken(
        steps in proptest::collection::vec(
            (
                0u16..400,
                prop_oneof![0u16..60, any::<u16>()],
                prop_oneof![0u32..20, any::<u32>()],
                proptest::collection::vec(any::<u8>(), 0..80),
                prop_oneof![0u64..200_000, any::<u32>().prop_map(u64::from)],
                0usize..60,
            ),
            1..80,
        ),
        (min, max) in prop_oneof![Just((30_000, 20_000_000)), Just((1, 1 << 50))],
        wanted in prop_oneof![Just(5_000_000u64), any::<u64>()],
    ) {
        let [start, min, max] = [2_500_000, min, max].map(Bitrate::new);
        let bounds = Bounds::new(min, max).starting_at(start);
        let mut estimator = Estimator::new(bounds);
        let mut prober = Prober::default();
        let mut now = 0u64;
        for (back, count, reference, rest, wait, sends) in steps {
            for i in 0..sends {
                estimator.note_sent(at(now), 1_000 + i as u16, prober.cluster());
                prober.sent(1_000);
            }
            now += wait;
            let base = estimator.next_sequence().wrapping_sub(back);
            let body = body(base, count, reference, &rest);
            if let Some(feedback) = Feedback::parse(&body)
                && let Some(rate) = estimator.feedback(at(now), &feedback).probed
            {
                prober.result(at(now), rate);
            }
            estimator.check(at(now));
            prober.poll(at(now), &mut estimator, Bitrate::new(wanted));
            prober.due(at(now));
            if back == 7 {
                estimator.start_probe(Cluster { id: 1, bytes: u32::MAX });
            }
            prop_assert!(within(&estimator, bounds), "{} {}", estimator.estimate(), estimator.budget());
        }
    }
}
