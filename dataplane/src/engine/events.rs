//! Events that wait to be polled. They wait as they are while there are few; then, of what is about the same, only the latest:
//! whoever does not poll for long gets the present state, and a worker's memory stays bounded.

use std::collections::VecDeque;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::ids::{ConferenceId, EndpointId};
use crate::messages::Event;
use crate::stats::{Counter, WorkerStats};

/// Events that wait as they are.
const ROOM: usize = 1_024;
/// Further values that wait, the latest of each kind.
const CAPACITY: usize = 65_536;

/// What an event is about: a newer one about the same replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Subject {
    Refused(EndpointId),
    Ice(EndpointId),
    IceRestart(EndpointId),
    Activity(EndpointId),
    DominantSpeaker(ConferenceId),
    ForwardedSources(EndpointId),
    SourcesMapped(EndpointId),
    Bandwidth(EndpointId),
    SourceDemand(EndpointId, String),
}

impl Subject {
    fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::EndpointRefused { endpoint, .. } => Self::Refused(*endpoint),
            Event::Ice { endpoint, .. } => Self::Ice(*endpoint),
            Event::IceRestart { endpoint, .. } => Self::IceRestart(*endpoint),
            Event::Activity { endpoint, .. } => Self::Activity(*endpoint),
            Event::DominantSpeaker { conference, .. } => Self::DominantSpeaker(*conference),
            Event::ForwardedSources { endpoint, .. } => Self::ForwardedSources(*endpoint),
            Event::SourcesMapped { endpoint, .. } => Self::SourcesMapped(*endpoint),
            Event::Bandwidth { endpoint, .. } => Self::Bandwidth(*endpoint),
            Event::SourceDemand { endpoint, source, .. } => Self::SourceDemand(*endpoint, source.clone()),
            // Whoever asked repeats what got lost.
            Event::Dtls { .. } | Event::ServerAnswered { .. } => return None,
        })
    }
}

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct EventQueue {
    plain: VecDeque<Event>,
    /// Younger than what is in `plain`.
    order: VecDeque<Subject>,
    #[serde(with = "crate::carry::map")]
    latest: HashMap<Subject, Event, foldhash::fast::RandomState>,
}

impl EventQueue {
    /// Adds an event. A datagram that finds no room is dropped and counted: whoever sent it repeats it.
    pub fn push(&mut self, event: Event, stats: &WorkerStats) {
        let subject = Subject::of(&event);
        let has_room = self.plain.len() < ROOM;
        match subject {
            None if has_room => self.plain.push_back(event),
            // What is coalesced goes first, or an older value would overtake a newer one.
            Some(_) if has_room && self.order.is_empty() => self.plain.push_back(event),
            None => stats.count(Counter::DropEventFull),
            Some(subject) => self.coalesce(subject, event, stats),
        }
    }

    fn coalesce(&mut self, subject: Subject, event: Event, stats: &WorkerStats) {
        if let Some(waiting) = self.latest.get_mut(&subject) {
            *waiting = event;
        } else if self.order.len() < CAPACITY {
            self.order.push_back(subject.clone());
            self.latest.insert(subject, event);
        } else {
            stats.count(Counter::DropEventFull);
        }
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<Event> {
        self.plain.pop_front().or_else(|| self.order.pop_front().and_then(|subject| self.latest.remove(&subject)))
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(endpoint: u32, active: bool) -> Event {
        Event::Activity { endpoint: EndpointId(endpoint), active }
    }

    fn dtls() -> Event {
        Event::Dtls { endpoint: EndpointId(1), datagram: vec![22] }
    }

    #[test]
    fn beyond_some_only_the_latest_state_waits_and_datagrams_are_dropped() {
        let (stats, mut queue) = (WorkerStats::default(), EventQueue::default());
        for n in 0..ROOM {
            // The same endpoint every time: all of it is reported.
            queue.push(activity(9, n % 2 == 0), &stats);
        }
        for event in [activity(1, true), activity(2, true), activity(1, false), dtls()] {
            queue.push(event, &stats);
        }
        assert_eq!(stats.get(Counter::DropEventFull), 1);
        for n in 0..ROOM {
            assert_eq!(queue.pop(), Some(activity(9, n % 2 == 0)));
            if n == 0 {
                // There is room now, but what waits is older.
                queue.push(activity(2, false), &stats);
            }
        }
        assert_eq!(queue.pop(), Some(activity(1, false)), "the latest wins");
        assert_eq!(queue.pop(), Some(activity(2, false)));
        assert!(queue.is_empty() && queue.pop().is_none());
        queue.push(dtls(), &stats);
        assert_eq!(queue.pop(), Some(dtls()));
        assert_eq!(stats.get(Counter::DropEventFull), 1);
    }
}
