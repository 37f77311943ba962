//! A brewery room of bridges, recorders or gateways: who is in it, and whether their accounts are trusted (docs/protocol/focus.md 7, 8.7).

use std::time::{Duration, Instant};

use jid::BareJid;
use xmpp_parsers::presence::{Presence, Type};

use super::context::Context;
use super::limits::Refused;
use super::state_error::FocusStateError;
use crate::brewery::{Brewery, Trust};
use crate::pace::Quiet;
use crate::xmpp::muc::{MucChange, MucRoom, whois_anyone};

/// A room that could not be joined is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// A join that is not answered at all is sent again after this.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// What a presence says of the occupant that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PoolChange {
    /// A trusted occupant spoke; its address in the room.
    Seen(String),
    /// An occupant left.
    Gone(String),
    /// We are out ourselves: nobody can be reached.
    Closed,
}

/// How instances of a kind announce themselves.
#[derive(Debug)]
pub(super) struct Announcement {
    /// Element in their presence.
    pub element: &'static str,
    /// What is counted where the account behind it is not trusted.
    pub refused: Refused,
    /// And logged.
    pub refusal: &'static str,
}

impl Announcement {
    /// Of a room that another process had, until this one's settings say what it is.
    fn unset() -> &'static Self {
        const { &Self::of_helpers("") }
    }

    /// Of recorders and gateways.
    pub const fn of_helpers(element: &'static str) -> Self {
        let refusal = "not accepted: its account is not trusted in the brewery";
        Self { element, refused: Refused::FalseInstance, refusal }
    }
}

/// The room.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Pool {
    brewery: Brewery,
    #[serde(with = "crate::carried")]
    retry: Option<Instant>,
    #[serde(skip, default = "Announcement::unset")]
    announcement: &'static Announcement,
    stranger_lines: Quiet,
}

impl Pool {
    /// A room that is to be joined.
    pub fn new(room: &BareJid, trust: Trust, announcement: &'static Announcement) -> Result<Self, jid::Error> {
        let brewery = Brewery::new(MucRoom::new(room, "focus")?, trust);
        Ok(Self { brewery, retry: None, announcement, stranger_lines: Quiet::default() })
    }

    /// Goes on with the room as another process has it.
    pub fn go_on_with(&mut self, other: Self) -> Result<(), FocusStateError> {
        let Self { brewery, retry, announcement: _, stranger_lines } = self;
        if !brewery.go_on_with(other.brewery) {
            return Err(FocusStateError::Contradiction("a brewery is another room".to_owned()));
        }
        (*retry, *stranger_lines) = (other.retry, other.stranger_lines);
        Ok(())
    }

    /// The same where there may be none.
    pub fn all_go_on_with(own: Option<&mut Self>, other: Option<Self>) -> Result<(), FocusStateError> {
        match (own, other) {
            (Some(own), Some(other)) => own.go_on_with(other),
            (None, None) => Ok(()),
            _ => Err(FocusStateError::Contradiction("a brewery is missing, or one too many".to_owned())),
        }
    }

    /// The room.
    pub fn room(&self) -> BareJid {
        self.brewery.room().room()
    }

    /// Asks to be let in.
    pub fn join(&mut self, cx: &mut Context<'_>) {
        self.retry = Some(cx.now + JOIN_TIMEOUT);
        let presence = self.brewery.join(Vec::new());
        cx.send(presence);
    }

    /// Leaves the brewery's room.
    pub fn leave(&mut self, cx: &mut Context<'_>) {
        let presence = self.brewery.leave();
        cx.send(presence);
    }

    /// Takes a presence; `None` when it changes nothing for those who want an instance.
    pub fn presence(&mut self, cx: &mut Context<'_>, presence: &Presence) -> Option<PoolChange> {
        let room = self.room();
        match self.brewery.handle(cx.now, presence)? {
            MucChange::Entered { created } => {
                tracing::info!(brewery = %room, "brewery joined");
                self.retry = None;
                if created {
                    cx.send(whois_anyone(&room, "brewery-form"));
                }
                None
            }
            MucChange::Left | MucChange::Refused { .. } => {
                tracing::warn!(brewery = %room, "not in the brewery; joining again");
                self.retry = Some(cx.now + RETRY);
                Some(PoolChange::Closed)
            }
            MucChange::OccupantLeft(_) => Some(PoolChange::Gone(presence.from.as_ref()?.to_string())),
            MucChange::OccupantJoined(nick) | MucChange::OccupantChanged(nick) => {
                let announces = presence.type_ == Type::None
                    && presence.payloads.iter().any(|payload| payload.name() == self.announcement.element);
                (announces && self.is_trusted(cx, &nick, presence))
                    .then(|| presence.from.as_ref().map(ToString::to_string))?
            }
            .map(PoolChange::Seen),
        }
    }

    /// Whether the account behind a nickname may announce an instance: who does is given other people's rooms.
    fn is_trusted(&mut self, cx: &mut Context<'_>, nick: &str, presence: &Presence) -> bool {
        let Some(remedy) = self.brewery.standing(nick).remedy() else { return true };
        cx.refused.count(self.announcement.refused, 1);
        if let Some(silenced) = self.stranger_lines.speak(cx.now) {
            tracing::warn!(from = ?presence.from, silenced, remedy, "{}", self.announcement.refusal);
        }
        false
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.retry.is_some_and(|due| due <= cx.now) {
            self.join(cx);
        }
        if self.brewery.take_look(cx.now) {
            let presence = self.brewery.room().look_again(Vec::new());
            cx.send(presence);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.retry.into_iter().chain(self.brewery.poll_look()).min()
    }
}
