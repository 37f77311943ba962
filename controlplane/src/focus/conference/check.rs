//! Whether a conference that another process wrote down can be gone on with.

use std::collections::BTreeSet;

use jid::BareJid;

use super::member::Member;
use super::state::Conference;

impl Conference {
    /// The room that it is a breakout room of.
    pub fn main_room(&self) -> Option<&BareJid> {
        self.main.as_ref()
    }

    /// What no focus would have written.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut sids = BTreeSet::new();
        let mut own = |member: &Member| member.sid().is_empty() || sids.insert(member.sid().to_owned());
        let all = [
            ("sessions on bridges", self.nodes.is_sound()),
            ("links between bridges", self.nodes.cascade.is_sound()),
            ("sources", self.sources.is_sound()),
            ("visitors", self.visitors.is_sound()),
            ("two sessions have one id", self.members.values().all(&mut own)),
        ];
        all.into_iter().find(|(_, sound)| !sound).map_or(Ok(()), |(what, _)| Err(what))
    }
}
