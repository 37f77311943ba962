//! Members are taken off a bridge that has too many, or that an operator wants to be free of.

use super::member::Member;
use super::nodes::Left;
use super::state::Conference;
use crate::focus::context::Context;
use crate::focus::selection::Wanted;

/// Why a bridge is relieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Relief {
    /// An operator asks for it.
    Asked,
    /// It is overloaded: a conference that can be on one bridge only is not disturbed for that.
    Overload,
}

impl Conference {
    /// Takes at most so many members off a bridge, those alone who get to another one; how many. A conference that can be on one
    /// bridge only moves as a whole or not at all. For a while nobody of it is sent back.
    pub(in super::super) fn relieve(
        &mut self,
        cx: &mut Context<'_>,
        bridge: &str,
        most: usize,
        relief: Relief,
    ) -> usize {
        let Some(session) = self.nodes.on(bridge).map(|session| session.id.clone()) else { return 0 };
        let known = self.nodes.left(cx.now, Left::Relieved).iter().any(|left| left == bridge);
        if relief == Relief::Asked {
            self.nodes.note_left(cx.now, bridge, Left::Relieved);
        }
        let mut moved = if cx.bridges.may_be_linked(bridge) { self.move_some(cx, &session, most) } else { 0 };
        let whole = moved == 0 && relief == Relief::Asked && self.nodes.len() == 1 && self.count_on(bridge) <= most;
        if whole && self.may_leave(cx, bridge) {
            moved = self.count_on(bridge);
            self.leave_session(cx, &session);
        }
        match moved {
            0 if !known => self.nodes.forgive(bridge),
            0 => {}
            _ => {
                self.nodes.note_left(cx.now, bridge, Left::Relieved);
                tracing::info!(room = %self.room, %bridge, moved, ?relief, "participants leave a bridge");
            }
        }
        moved
    }

    /// Takes at most so many out of a session who get to another bridge.
    fn move_some(&mut self, cx: &mut Context<'_>, session: &str, most: usize) -> usize {
        let mut nicks = self.in_order(Member::has_endpoint);
        nicks.retain(|nick| self.nodes.is_home(nick, session));
        let mut moved = 0;
        for nick in nicks {
            if moved == most {
                break;
            }
            // Who would come back is not disturbed.
            let next = self.next_bridge(cx, &nick);
            if next.is_none_or(|next| self.nodes.by_id(session).is_none_or(|s| s.bridge == next)) {
                continue;
            }
            self.reinvite_fresh(cx, &nick);
            moved += 1;
        }
        cx.totals.moved += moved as u64;
        moved
    }

    /// Whether all of a conference that is on one bridge alone, which it is to leave, can be on another one.
    fn may_leave(&self, cx: &Context<'_>, bridge: &str) -> bool {
        let avoid = self.nodes.left(cx.now, Left::Relieved);
        let wanted = Wanted { version: self.pinned.as_deref(), avoid: &avoid, ..Wanted::default() };
        cx.bridges.choose(cx.now, &wanted).is_some_and(|next| next != bridge)
    }

    /// Invites one member again because an operator asked for it, to another bridge where its conference can be on several;
    /// whether it had a session.
    pub(in super::super) fn invite_again(&mut self, cx: &mut Context<'_>, nick: &str) -> bool {
        let Some(bridge) = self.nodes.home(nick).map(|home| home.bridge.clone()) else { return false };
        let there = self.members.get(nick).is_some_and(Member::has_endpoint);
        if there {
            tracing::info!(room = %self.room, endpoint = nick, "invited again: an operator asked for it");
            cx.totals.moved += 1;
            // For this one alone: others may still be sent there.
            let known = self.nodes.left(cx.now, Left::Relieved).contains(&bridge);
            if !known {
                self.nodes.note_left(cx.now, &bridge, Left::Relieved);
            }
            self.reinvite_fresh(cx, nick);
            if !known {
                self.nodes.forgive(&bridge);
            }
        }
        there
    }
}
