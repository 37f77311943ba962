//! Which video codecs all visitors understand, in an order that suits most of them: participants send one of these.

use std::collections::BTreeMap;

use tokio_xmpp::minidom::Element;

use crate::focus::limits::{IMPLAUSIBLE, MAX_CODEC, MAX_CODECS};

/// Every client understands it.
const LAST_RESORT: &str = "vp8";

/// The codecs that a presence names, the preferred one first; nothing when it names none.
pub(in super::super) fn codecs_of(payloads: &[Element]) -> Option<Vec<String>> {
    let text = |name: &str| payloads.iter().find(|payload| payload.name() == name).map(Element::text);
    let list = text("jitsi_participant_codecList").or_else(|| text("jitsi_participant_codecType"))?;
    let plain = |name: &&str| name.len() <= MAX_CODEC && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut codecs: Vec<String> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()).filter(plain).take(MAX_CODECS) {
        let name = name.to_ascii_lowercase();
        if !codecs.contains(&name) {
            codecs.push(name);
        }
    }
    if !codecs.iter().any(|name| name == LAST_RESORT) {
        codecs.push(LAST_RESORT.to_owned());
    }
    Some(codecs)
}

/// The preferences of all visitors that have any (a Borda count).
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Codecs {
    voters: usize,
    /// By codec: how many have it, and the sum of its places.
    votes: BTreeMap<String, (usize, usize)>,
}

impl Codecs {
    /// Whether as many can have voted.
    pub fn is_sound(&self) -> bool {
        let most = IMPLAUSIBLE as usize;
        let votes = self.votes.values().all(|(count, places)| *count < most && *places < most);
        votes && self.voters < most && self.votes.len() <= MAX_CODECS
    }

    /// One more visitor.
    pub fn add(&mut self, codecs: &[String]) {
        self.voters += 1;
        for (place, name) in codecs.iter().enumerate() {
            // The names are the visitors': there are only so many.
            if self.votes.len() >= MAX_CODECS && !self.votes.contains_key(name) {
                continue;
            }
            let (count, places) = self.votes.entry(name.clone()).or_default();
            *count += 1;
            *places += place;
        }
    }

    /// That visitor is gone; it has to be one that was added.
    pub fn remove(&mut self, codecs: &[String]) {
        self.voters = self.voters.saturating_sub(1);
        for (place, name) in codecs.iter().enumerate() {
            if let Some((count, places)) = self.votes.get_mut(name) {
                *count = count.saturating_sub(1);
                *places = places.saturating_sub(place);
                if *count == 0 {
                    self.votes.remove(name);
                }
            }
        }
    }

    /// What all of them understand, with commas.
    pub fn common(&self) -> String {
        let mut common: Vec<(usize, &str)> = self
            .votes
            .iter()
            .filter(|(_, (count, _))| *count == self.voters)
            .map(|(name, (_, places))| (*places, name.as_str()))
            .collect();
        common.sort_unstable();
        common.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Option<Vec<String>> {
        let element = Element::builder(name, "jabber:client").append(text.to_owned()).build();
        codecs_of(&[element])
    }

    #[test]
    fn what_a_presence_names_is_bounded_and_has_vp8() {
        let list = |text: &str| of("jitsi_participant_codecList", text).expect("a list").join(",");
        assert_eq!(list("av1,vp9,vp8,h264"), "av1,vp9,vp8,h264");
        assert_eq!(list(" H264 , h264,,vp9"), "h264,vp9,vp8");
        assert_eq!(list(""), "vp8");
        assert_eq!(list("<x>,a b,\u{e4}"), "vp8");
        let many = (0..100).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(list(&many).split(',').count(), MAX_CODECS + 1);
        assert_eq!(list(&"x".repeat(MAX_CODEC + 1)), "vp8");
        assert_eq!(of("jitsi_participant_codecType", "VP9").expect("one"), ["vp9", "vp8"]);
        assert_eq!(of("other", "vp9"), None);
    }

    #[test]
    fn what_all_have_in_the_order_of_most() {
        let lists: Vec<Vec<String>> =
            ["av1,vp9,vp8", "vp9,vp8,h264", "vp9,h264,vp8"].map(|l| l.split(',').map(str::to_owned).collect()).into();
        let mut codecs = Codecs::default();
        assert_eq!(codecs.common(), "");
        for list in &lists {
            codecs.add(list);
        }
        assert_eq!(codecs.common(), "vp9,vp8");
        codecs.remove(&lists[0]);
        assert_eq!(codecs.common(), "vp9,h264,vp8");
        codecs.remove(&lists[1]);
        codecs.remove(&lists[2]);
        assert!(codecs.common().is_empty() && codecs.votes.is_empty());
    }

    #[test]
    fn names_that_visitors_make_up_do_not_pile_up() {
        let mut codecs = Codecs::default();
        let list = |n: usize| vec![format!("made{n}"), "vp8".to_owned()];
        codecs.add(&["vp8".to_owned()]);
        for n in 0..1_000 {
            codecs.add(&list(n));
        }
        assert!(codecs.votes.len() <= MAX_CODECS);
        assert_eq!(codecs.common(), "vp8");
        for n in 0..1_000 {
            codecs.remove(&list(n));
        }
        codecs.remove(&["vp8".to_owned()]);
        assert_eq!((codecs.voters, codecs.votes.len()), (0, 0));
    }
}
