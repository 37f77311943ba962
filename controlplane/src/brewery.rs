//! Which occupants of a brewery room are trusted: whose requests a bridge answers, and who is a bridge to the focus.
//!
//! Being in the room is not enough, since a server may let guests in. Trusted are accounts that the operator made: those of our own
//! account's domain, which on every usual installation nobody else can log in to (`auth.…`), or those that are listed.

use jid::{BareJid, FullJid};
use std::time::{Duration, Instant};

use crate::xmpp::muc::{MucChange, MucRoom, Occupant};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::presence::Presence;

/// Strangers in the room that are remembered.
const MAX_STRANGERS: usize = 256;

/// Presence without a real address is asked for again after this: the room may be about to show addresses.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// And after twice as long each time when that did not help, up to this.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// What to do about occupants that are not trusted.
const REMEDY: &str = "to trust it, list its account or domain in brewery-trusted; otherwise keep guests out of the brewery's MUC service";
/// What to do about addresses that are not shown.
const REMEDY_HIDDEN: &str = "the room hides real addresses: set muc_room_default_public_jids = true on the brewery's MUC service, or make this account an admin of it";

/// What an occupant is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A trusted account.
    Trusted,
    /// Somebody else.
    Stranger,
    /// The room does not show who it is.
    Hidden,
    /// Not in the room.
    Absent,
}

impl Standing {
    /// What the operator can do about an occupant that is not trusted.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Trusted => None,
            Self::Hidden => Some(REMEDY_HIDDEN),
            Self::Stranger | Self::Absent => Some(REMEDY),
        }
    }
}

/// Trusted accounts and domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    listed: Vec<BareJid>,
}

impl Trust {
    /// Those that are listed; without any, all of the domain of our own account.
    pub fn new(own: &BareJid, listed: &[BareJid]) -> Self {
        let listed = if listed.is_empty() { vec![BareJid::from_parts(None, own.domain())] } else { listed.to_vec() };
        Self { listed }
    }

    /// What an occupant is.
    pub fn judge(&self, occupant: Option<&Occupant>) -> Standing {
        let Some(occupant) = occupant else { return Standing::Absent };
        let Some(real) = &occupant.real_jid else { return Standing::Hidden };
        if self.includes(&real.to_bare()) { Standing::Trusted } else { Standing::Stranger }
    }

    /// Whether an account is trusted.
    pub fn includes(&self, account: &BareJid) -> bool {
        self.listed.iter().any(|listed| match listed.node() {
            Some(_) => listed == account,
            None => listed.domain() == account.domain(),
        })
    }
}

/// A brewery room with those who are in it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Brewery {
    /// The room.
    room: MucRoom,
    #[serde(skip)]
    trust: Trust,
    #[serde(with = "crate::carried")]
    look: Option<Instant>,
    looks: u32,
}

impl Brewery {
    /// A room that is to be joined.
    pub fn new(room: MucRoom, trust: Trust) -> Self {
        Self { room, trust, look: None, looks: 0 }
    }

    /// The room.
    pub fn room(&self) -> &MucRoom {
        &self.room
    }

    /// The presence that joins, with payloads that are announced.
    pub fn join(&mut self, payloads: Vec<Element>) -> Presence {
        self.room.join(payloads)
    }

    /// The presence that leaves.
    pub fn leave(&mut self) -> Presence {
        self.room.leave()
    }

    /// Forgets who is there: the connection was lost.
    pub fn reset(&mut self) {
        self.room.reset();
    }

    /// Goes on where another process was, with nicknames and the addresses that the room shows.
    pub fn take_over(&mut self, joined: bool, occupants: impl Iterator<Item = (String, Option<FullJid>)>) {
        self.room.take_over(joined, occupants);
    }

    /// Goes on with the room as another process has it; false when that is in another one, or under another nickname.
    #[must_use]
    pub fn go_on_with(&mut self, other: Self) -> bool {
        let Self { room, trust: _, look, looks } = self;
        let same = (room.room(), room.nickname()) == (other.room.room(), other.room.nickname());
        (*room, *look, *looks) = (other.room, other.look, other.looks);
        same
    }

    /// Takes a presence; `None` when it is not from this room.
    pub fn handle(&mut self, now: Instant, presence: &Presence) -> Option<MucChange> {
        let change = self.room.handle(presence)?;
        match &change {
            MucChange::OccupantJoined(nick) | MucChange::OccupantChanged(nick) => {
                let standing = self.standing(nick);
                if standing == Standing::Hidden && self.look.is_none() {
                    let wait = FIRST_LOOK.saturating_mul(1 << self.looks.min(8));
                    self.look = Some(now + wait.min(LONGEST_LOOK));
                }
                let count = |occupant: &Occupant| self.trust.judge(Some(occupant)) != Standing::Trusted;
                // Trusted occupants are always remembered, however many others there are.
                if standing != Standing::Trusted
                    && self.room.occupants().len() > MAX_STRANGERS
                    && self.room.occupants().values().filter(|occupant| count(occupant)).count() > MAX_STRANGERS
                {
                    self.room.forget(nick);
                }
            }
            MucChange::Entered { .. } | MucChange::Left | MucChange::Refused { .. } => {
                (self.look, self.looks) = (None, 0);
                // Those who were there are announced before we are.
                if self.room.occupants().values().any(|occupant| occupant.real_jid.is_none()) {
                    self.look = Some(now + FIRST_LOOK);
                }
            }
            MucChange::OccupantLeft(_) => {}
        }
        Some(change)
    }

    /// What the occupant with that nickname is.
    pub fn standing(&self, nick: &str) -> Standing {
        self.trust.judge(self.room.occupants().get(nick))
    }

    /// When everybody's presence is to be asked for again.
    pub fn poll_look(&self) -> Option<Instant> {
        self.look.filter(|_| self.room.is_joined())
    }

    /// Whether that is due; then it is on its way.
    pub fn take_look(&mut self, now: Instant) -> bool {
        let due = self.room.is_joined() && self.look.is_some_and(|at| at <= now);
        if due {
            self.look = None;
            self.looks = self.looks.saturating_add(1);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_xmpp::minidom::Element;

    const ROOM: &str = "brewery@internal.auth.x";

    fn brewery(listed: &[&str]) -> Brewery {
        let listed: Vec<BareJid> = listed.iter().map(|jid| jid.parse().unwrap()).collect();
        let trust = Trust::new(&"jvb@auth.x".parse().unwrap(), &listed);
        Brewery::new(MucRoom::new(&ROOM.parse().unwrap(), "jvb1").unwrap(), trust)
    }

    fn presence(nick: &str, item: &str) -> Presence {
        let xml = format!(
            "<presence xmlns='jabber:client' from='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='participant' {item}/></x></presence>"
        );
        Presence::try_from(xml.parse::<Element>().unwrap()).unwrap()
    }

    #[test]
    fn only_accounts_of_our_domain_count() {
        let mut brewery = brewery(&[]);
        let now = Instant::now();
        for (nick, item, standing) in [
            ("focus", "affiliation='none' jid='focus@auth.x/focus'", Standing::Trusted),
            ("jvb2", "affiliation='owner' jid='jvb@AUTH.x/jvb2'", Standing::Trusted),
            // Who makes the room is its owner, whoever that is.
            ("guest", "affiliation='owner' jid='3f2a@x/web'", Standing::Stranger),
            ("below", "affiliation='none' jid='3f2a@guest.auth.x/web'", Standing::Stranger),
            ("above", "affiliation='none' jid='auth.x@x/auth.x'", Standing::Stranger),
            ("veiled", "affiliation='owner'", Standing::Hidden),
        ] {
            brewery.handle(now, &presence(nick, item));
            assert_eq!(brewery.standing(nick), standing, "{nick}");
        }
        assert_eq!(brewery.standing("nobody"), Standing::Absent);
        let gone = "<presence xmlns='jabber:client' type='unavailable' from='brewery@internal.auth.x/focus'/>";
        brewery.handle(now, &Presence::try_from(gone.parse::<Element>().unwrap()).unwrap());
        assert_eq!(brewery.standing("focus"), Standing::Absent);
        brewery.handle(now, &presence("focus", "affiliation='none' jid='mallory@x/y'"));
        assert_eq!(brewery.standing("focus"), Standing::Stranger, "the nickname is nobody's");
    }

    #[test]
    fn a_list_takes_the_place_of_the_domain() {
        let mut brewery = brewery(&["focus@other.x", "third.x"]);
        let now = Instant::now();
        for (real, standing) in [
            ("focus@other.x/focus", Standing::Trusted),
            ("jvb@other.x/focus", Standing::Stranger),
            ("anybody@third.x/1", Standing::Trusted),
            ("jvb@auth.x/1", Standing::Stranger),
        ] {
            brewery.handle(now, &presence("a", &format!("affiliation='none' jid='{real}'")));
            assert_eq!(brewery.standing("a"), standing, "{real}");
        }
    }

    #[test]
    fn strangers_are_forgotten_and_the_focus_is_not() {
        let mut brewery = brewery(&[]);
        let now = Instant::now();
        for guest in 0..3 * MAX_STRANGERS {
            brewery.handle(now, &presence(&format!("g{guest}"), &format!("affiliation='none' jid='g{guest}@x/y'")));
        }
        brewery.handle(now, &presence("focus", "affiliation='none' jid='focus@auth.x/focus'"));
        assert_eq!(brewery.standing("focus"), Standing::Trusted);
        assert!(brewery.room.occupants().len() <= MAX_STRANGERS + 1, "{}", brewery.room.occupants().len());
    }

    #[test]
    fn hidden_addresses_are_asked_for_again() {
        let mut brewery = brewery(&[]);
        let now = Instant::now();
        brewery.handle(now, &presence("focus", "affiliation='none'"));
        let me = format!(
            "<presence xmlns='jabber:client' from='{ROOM}/jvb1'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='participant' affiliation='none'/><status code='110'/></x></presence>"
        );
        let me = Presence::try_from(me.parse::<Element>().unwrap()).unwrap();
        assert_eq!(brewery.handle(now, &me), Some(MucChange::Entered { created: false }));
        let at = brewery.poll_look().expect("soon");
        assert!(!brewery.take_look(now) && brewery.take_look(at));
        brewery.handle(at, &presence("focus", "affiliation='none'"));
        assert_eq!(brewery.poll_look(), Some(at + 2 * FIRST_LOOK), "still hidden: not so soon again");
        let mut at = at;
        for _ in 0..20 {
            let before = std::mem::replace(&mut at, brewery.poll_look().expect("again"));
            assert!(brewery.take_look(at) && at - before <= LONGEST_LOOK);
            brewery.handle(at, &presence("focus", "affiliation='none'"));
        }
        brewery.handle(at, &presence("focus", "affiliation='none' jid='focus@auth.x/focus'"));
        assert_eq!(brewery.standing("focus"), Standing::Trusted);
    }
}
