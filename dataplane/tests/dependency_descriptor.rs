//! The dependency descriptor against a writer made from the specification.

mod dependency_writer;

use dependency_writer::{Extended, Structure, attached, descriptor, indication, l1t3, l3t3_key};
use proptest::prelude::*;
use ringbridge_dataplane::rtp::dependency::{self, Descriptor};

#[test]
fn a_structure_and_what_refers_to_it() {
    let structure = l3t3_key(60);
    let mut known = None;
    let key = descriptor((true, false), structure.template(0, 0, 0), 7, &structure, attached(true));
    let first = Descriptor::parse(&key, &mut known).unwrap();
    assert!(first.has_structure && first.starts && !first.ends);
    assert_eq!((first.frame_number, first.active, first.frame.present), (7, Some(0x1ff), 0x1ff));
    let parsed = known.as_deref().unwrap();
    assert_eq!(parsed.heights(), [180, 360, 720]);
    assert_eq!(parsed.offset, 60);
    let layers: Vec<(u8, u8)> = (0..3).flat_map(|s| (0..3).map(move |t| (s, t))).collect();
    assert_eq!(parsed.targets(), layers);
    for (template, written) in parsed.templates().iter().zip(&structure.templates) {
        assert_eq!((template.spatial, template.temporal), (written.spatial, written.temporal));
        for (target, letter) in written.indications.chars().enumerate() {
            assert_eq!(template.present >> target & 1 != 0, letter != '-');
            assert_eq!(template.switch >> target & 1 != 0, letter == 'S');
        }
    }
    let delta = descriptor((false, true), structure.template(2, 1, 0), 9, &structure, attached(false));
    assert_eq!(delta.len(), 3);
    let delta = Descriptor::parse(&delta, &mut known).unwrap();
    assert_eq!((delta.frame.spatial, delta.frame.temporal, delta.active), (2, 1, None));
    let fewer = descriptor(
        (true, true),
        structure.template(0, 0, 1),
        10,
        &structure,
        Extended { attach: false, active: Some(7), indications: Some("SR-------") },
    );
    let fewer = Descriptor::parse(&fewer, &mut known).unwrap();
    assert_eq!((fewer.active, fewer.frame.present, fewer.frame.switch), (Some(7), 3, 1));
}

#[test]
fn nothing_is_known_before_a_structure() {
    let structure = l1t3(0);
    let delta = descriptor((true, true), 1, 1, &structure, attached(false));
    assert!(Descriptor::parse(&delta, &mut None).is_err());
    let mut known = None;
    let key = descriptor((true, true), 0, 1, &structure, attached(true));
    Descriptor::parse(&key, &mut known).unwrap();
    let unknown = descriptor((true, true), 5, 2, &structure, attached(false));
    assert!(Descriptor::parse(&unknown, &mut known).is_err(), "the structure has five templates");
    for len in 0..key.len() {
        assert!(Descriptor::parse(&key[..len], &mut None).is_err(), "cut at {len}");
    }
}

fn structures() -> impl Strategy<Value = Structure> {
    (0u8..64, any::<bool>()).prop_map(|(offset, large)| if large { l3t3_key(offset) } else { l1t3(offset) })
}

proptest! {
    #[test]
    fn patching_moves_numbers_and_nothing_else(
        structure in structures(),
        attach in any::<bool>(),
        index in 0u8..5,
        (number, to) in any::<(u16, u16)>(),
        shift in 0u8..64,
        mask in proptest::option::of(0u32..8),
    ) {
        let extended = Extended { attach, active: mask, ..Extended::default() };
        let mut data = descriptor((true, false), index, number, &structure, extended);
        dependency::patch(&mut data, to, shift);
        let moved = Structure { offset: (structure.offset + shift) & 0x3f, ..structure };
        prop_assert_eq!(data, descriptor((true, false), index, to, &moved, extended));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(data in proptest::collection::vec(any::<u8>(), 0..200), known in structures()) {
        let mut structure = None;
        let key = descriptor((true, true), 0, 1, &known, attached(true));
        Descriptor::parse(&key, &mut structure).unwrap();
        let _ = Descriptor::parse(&data, &mut structure);
        let mut with_structure = data.clone();
        if let Some(flags) = with_structure.get_mut(3) {
            *flags |= 0x80;
        }
        let _ = Descriptor::parse(&with_structure, &mut structure);
        dependency::patch(&mut with_structure, 1, 63);
    }

    #[test]
    fn indications_of_every_frame_can_differ(letters in "[-DSR]{9}") {
        let structure = l3t3_key(3);
        let mut known = None;
        let key = descriptor((true, true), 0, 1, &structure, Extended { attach: true, active: None, indications: Some(&letters) });
        let parsed = Descriptor::parse(&key, &mut known).unwrap();
        for (target, letter) in letters.chars().enumerate() {
            prop_assert_eq!(parsed.frame.present >> target & 1 != 0, indication(letter) != 0);
        }
    }
}
