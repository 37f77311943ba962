//! When a conference has something to do: each participant on its own, and the conference as a whole.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::budget::Pace;
use crate::deadlines::Deadlines;
use crate::ids::ParticipantId;
use crate::limits::{ALLOCATION_BURST, ALLOCATION_COST, ALLOCATION_LEAST, TimerRuns};

/// Least time between two runs of a conference's timers, so that many share one.
pub const SPACING: Duration = Duration::from_millis(5);

/// The deadlines of one conference.
#[derive(Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// When each participant is due.
    participants: Deadlines<ParticipantId>,
    /// Those of the last run; kept for its memory.
    due: Vec<ParticipantId>,
    /// When the conference itself is.
    #[serde(with = "crate::carry::checked")]
    own: Option<Instant>,
    /// Participants are not looked after before this.
    #[serde(with = "crate::carry::checked")]
    rest_until: Option<Instant>,
    /// When the allocation has to run, since constraints, sources or sizes changed.
    #[serde(with = "crate::carry::checked")]
    allocate_at: Option<Instant>,
    /// When it may run again.
    #[serde(with = "crate::carry::checked")]
    allocate_after: Option<Instant>,
    pace: Pace,
    runs: TimerRuns,
    /// When video that found no SSRC may find one: its receiver's client knows one of them for long enough by then.
    #[serde(with = "crate::carry::checked")]
    slots_settle: Option<Instant>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            participants: Deadlines::default(),
            due: Vec::new(),
            own: None,
            rest_until: None,
            allocate_at: None,
            allocate_after: None,
            pace: Pace::default(),
            runs: TimerRuns::new(),
            slots_settle: None,
        }
    }
}

impl Schedule {
    /// When timers are to run next.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        let participants = self.participants.first().map(|at| self.rest_until.map_or(at, |rest| at.max(rest)));
        earliest(self.own, participants)
    }

    /// Begins a run of the timers; false when there were too many of late, and this one has to wait.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.rest_until = Some(now + SPACING);
        let may = self.runs.take(now);
        self.own = if may { None } else { self.rest_until };
        may
    }

    /// The participants that are due in this run.
    pub fn take_due(&mut self, now: Instant) -> Vec<ParticipantId> {
        let mut due = std::mem::take(&mut self.due);
        due.clear();
        due.extend(std::iter::from_fn(|| self.participants.pop(now)));
        due
    }

    /// Ends a run over the participants that were `due`; `next` is when the conference itself is.
    pub fn end(&mut self, now: Instant, due: Vec<ParticipantId>, next: Option<Instant>) {
        self.due = due;
        let next = earliest(earliest(next, self.slots_settle.filter(|at| *at > now)), self.allocate_at);
        self.own = earliest(self.own, next).map(|at| at.max(now + SPACING));
    }

    /// Makes room for participants with numbers below `bound`.
    pub fn reserve(&mut self, bound: usize) {
        self.participants.reserve(bound);
    }

    /// A participant is gone.
    pub fn remove(&mut self, participant: ParticipantId) {
        self.participants.set(participant, None);
    }

    /// Makes sure that the conference's own timers run at `at` or before.
    #[inline]
    pub fn wake(&mut self, at: Instant) {
        self.own = Some(self.own.map_or(at, |due| due.min(at)));
    }

    /// Makes sure that a participant is looked after at `at`, or a moment later together with others.
    #[inline]
    pub fn wake_participant(&mut self, participant: ParticipantId, at: Instant) {
        self.participants.wake(participant, at);
    }

    /// Makes sure that a participant is looked after now.
    pub fn hurry(&mut self, participant: ParticipantId, now: Instant) {
        self.participants.wake(participant, now);
        self.wake(now);
    }

    /// Video of a receiver may find an SSRC at `at`; `None` is not known.
    pub fn settle(&mut self, at: Option<Instant>) {
        self.slots_settle = earliest(self.slots_settle, at);
    }

    /// Forgets the time given to [`Self::settle`]; true when it has come.
    pub fn take_settled(&mut self, now: Instant) -> bool {
        self.slots_settle.take_if(|at| *at <= now).is_some()
    }

    /// An allocation begins: it finds out anew when slots settle.
    pub fn forget_settling(&mut self) {
        self.slots_settle = None;
    }

    /// Asks for the allocation to run at a time, or when it may next.
    pub fn touch(&mut self, at: Instant) {
        let at = self.allocate_after.map_or(at, |after| at.max(after));
        self.allocate_at = Some(self.allocate_at.map_or(at, |before| before.min(at)));
        self.wake(at);
    }

    /// Asks for the allocation to run, because of something that an endpoint did; not at once when it does that all the time.
    pub fn touch_for(&mut self, now: Instant, reserve: impl FnOnce(Instant) -> Instant) {
        if self.allocate_at.is_none_or(|at| at > now) {
            self.touch(reserve(now));
        }
    }

    /// Whether the allocation, of so many receivers and videos, is to run now. Then it counts as done.
    pub fn takes_allocation(&mut self, now: Instant, pairs: usize) -> bool {
        if self.allocate_at.is_none_or(|at| at > now) {
            return false;
        }
        let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
        let cost = ALLOCATION_COST.saturating_mul(pairs).max(ALLOCATION_LEAST);
        match self.pace.take(now, cost, ALLOCATION_BURST) {
            Ok(()) => {
                (self.allocate_at, self.allocate_after) = (None, None);
                true
            }
            Err(ready) => {
                (self.allocate_at, self.allocate_after) = (Some(ready), Some(ready));
                false
            }
        }
    }

    /// Whether the allocation is asked for and due.
    pub fn wants_allocation(&self, now: Instant) -> bool {
        self.allocate_at.is_some_and(|at| at <= now)
    }
}

/// The earlier of two deadlines.
#[inline]
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    fn participant(number: usize) -> ParticipantId {
        ParticipantId::new(number)
    }

    #[test]
    fn a_run_is_of_those_who_are_due_and_the_next_one_a_moment_later() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (number, due) in [(0, 10), (1, 500), (2, 12), (3, 10)] {
            schedule.wake_participant(participant(number), at(due));
        }
        assert_eq!(schedule.deadline(), Some(at(10)));
        assert!(schedule.begin(at(10)));
        let due = schedule.take_due(at(10));
        assert_eq!(due, [0, 3].map(participant));
        schedule.end(at(10), due, None);
        // The one that is due at 12 shares the next run.
        assert_eq!(schedule.deadline(), Some(at(15)));
        schedule.hurry(participant(1), at(11));
        assert_eq!(schedule.deadline(), Some(at(11)), "what is urgent does not wait");
        assert!(schedule.begin(at(11)));
        assert_eq!(schedule.take_due(at(11)), [participant(1)]);
    }

    #[test]
    fn who_is_gone_is_not_looked_after() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.wake_participant(participant(0), now);
        schedule.remove(participant(0));
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn runs_beyond_the_bound_are_delayed_and_none_is_lost() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let mut runs = 0;
        loop {
            schedule.hurry(participant(0), now);
            if !schedule.begin(now) {
                break;
            }
            runs += 1;
            let due = schedule.take_due(now);
            schedule.end(now, due, None);
        }
        assert_eq!(runs, 100);
        assert_eq!(schedule.deadline(), Some(now + SPACING));
        assert!(schedule.begin(now + SPACING));
        assert_eq!(schedule.take_due(now + SPACING), [participant(0)]);
    }

    #[test]
    fn an_allocation_that_costs_more_than_its_share_waits() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.touch(now);
        assert!(schedule.takes_allocation(now, 100_000) && !schedule.wants_allocation(now));
        schedule.touch(now);
        assert!(!schedule.takes_allocation(now, 100_000));
        assert!(schedule.deadline().is_some() && !schedule.wants_allocation(now + Duration::from_millis(100)));
        schedule.touch(now + Duration::from_millis(1));
        assert!(!schedule.wants_allocation(now + Duration::from_millis(100)), "no other request makes it earlier");
    }
}
