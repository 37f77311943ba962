//! Rooms of the process before. Where the server kept its session we never left them: nobody in a room noticed, and we look
//! around in each as soon as we are back. Elsewhere they begin anew when somebody asks for them.

use std::time::Instant;

use jid::BareJid;

use super::conference::{Conference, orphans};
use super::former_rooms::FormerRooms;
use super::kept::{Kept, KeptRoom};
use super::limits::RETURNING;
use super::service::Focus;
use crate::xmpp::iq::Request;

impl Focus {
    /// What the next process needs, as text.
    pub fn keep(&self) -> String {
        let running = self.conferences.iter().map(|(room, conference)| {
            let kept = KeptRoom { tasks: self.recording.kept(room), ..conference.kept() };
            (room.to_string(), kept)
        });
        let returning = self.returning.all().iter().map(|(room, kept)| (room.to_string(), kept.clone()));
        Kept::of(returning.chain(running).collect()).to_text()
    }

    /// Takes what the process before left, before the first connection; how many rooms that are. An error says why it is not used.
    pub fn restore(&mut self, text: &str) -> Result<usize, String> {
        let kept = Kept::read(text)?;
        let rooms = kept.rooms.into_iter().filter_map(|(room, kept)| Some((room.parse().ok()?, kept)));
        self.returning = FormerRooms::of(rooms.take(self.shared.settings.max_conferences).collect());
        Ok(self.returning.all().len())
    }

    /// The first connection of this process is up; `resumed` says that the rooms saw nobody leave.
    pub(super) fn begin_returning(&mut self, now: Instant, resumed: bool) {
        let rooms = self.returning.all().len();
        if rooms > 0 {
            tracing::info!(rooms, resumed, "rooms of the process before");
        }
        self.returning.begin(now, resumed);
        self.shared.orphans.extend(self.returning.all().iter().flat_map(|(room, kept)| orphans(now, room, kept)));
    }

    /// The server said which services it has, or will not.
    pub(super) fn may_return(&mut self) {
        self.returning.may_enter();
    }

    /// The session ended: rooms that were not entered yet are left too.
    pub(super) fn forget_returning(&mut self) {
        self.returning = FormerRooms::default();
    }

    /// Enters rooms of the process before, some at a time.
    pub(super) fn enter_returning(&mut self, now: Instant) {
        if !self.returning.are_due() {
            return;
        }
        let entering = self.conferences.values().filter(|conference| !conference.is_ready()).count();
        for _ in entering..RETURNING {
            let Some((room, kept)) = self.returning.next() else { return };
            if self.serves(&room) {
                self.enter_again(now, room, &kept, Vec::new());
            }
        }
    }

    /// Somebody asks for a room: whether it is one of the process before, which then begins with what is known of it.
    pub(super) fn asked_for_returning(&mut self, now: Instant, room: &BareJid, request: &Request) -> bool {
        let Some(kept) = self.returning.take(room) else { return false };
        self.enter_again(now, room.clone(), &kept, vec![request.clone()]);
        true
    }

    fn enter_again(&mut self, now: Instant, room: BareJid, kept: &KeptRoom, waiting: Vec<Request>) {
        let mut cx = self.shared.at(now);
        let conference = Conference::of_former_process(room.clone(), waiting, kept, &mut cx);
        tracing::info!(%room, members = kept.members.len(), "conference of the process before goes on");
        cx.totals.conferences += 1;
        conference.join(&mut cx);
        self.conferences.insert(room.clone(), conference);
        self.recording.restore(now, &room, &kept.tasks);
    }

    /// Forgets what nobody asked for.
    pub(super) fn returning_timeout(&mut self, now: Instant) {
        if self.returning.poll_timeout().is_some_and(|until| until <= now) {
            self.forget_returning();
        }
    }
}
