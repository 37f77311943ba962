//! Events on their way to the control plane. The worker never waits for it: DTLS datagrams that find the ring full
//! are dropped and counted (DTLS repeats them); of everything else the latest value waits here.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::ids::{ConferenceId, EndpointId};
use crate::link::ControlLink;
use crate::messages::Event;
use crate::stats::{Counter, WorkerStats};

/// Most values that wait.
const CAPACITY: usize = 65_536;

/// What an event is about: a newer one about the same replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Default)]
pub(super) struct Outbox {
    order: VecDeque<Subject>,
    latest: HashMap<Subject, Event, foldhash::fast::RandomState>,
}

impl Outbox {
    /// Queues an event, or keeps it for [`Self::retry`].
    pub fn send(&mut self, event: Event, link: &mut ControlLink, stats: &WorkerStats) {
        let subject = Subject::of(&event);
        // What waits goes first, or an older value would overtake a newer one.
        let event = if subject.is_none() || self.is_empty() {
            match link.send(event) {
                Ok(()) => return,
                Err(event) => event,
            }
        } else {
            event
        };
        let Some(subject) = subject else { return stats.count(Counter::DropEventFull) };
        if let Some(waiting) = self.latest.get_mut(&subject) {
            *waiting = event;
        } else if self.order.len() < CAPACITY {
            self.order.push_back(subject.clone());
            self.latest.insert(subject, event);
        } else {
            stats.count(Counter::DropEventFull);
        }
    }

    /// Queues what waits, as far as there is room.
    pub fn retry(&mut self, link: &mut ControlLink) {
        while let Some(subject) = self.order.pop_front() {
            let Some(event) = self.latest.remove(&subject) else { continue };
            if let Err(event) = link.send(event) {
                self.latest.insert(subject.clone(), event);
                self.order.push_front(subject);
                return;
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link;

    fn activity(endpoint: u32, active: bool) -> Event {
        Event::Activity { endpoint: EndpointId(endpoint), active }
    }

    fn dtls() -> Event {
        Event::Dtls { endpoint: EndpointId(1), datagram: vec![22] }
    }

    #[test]
    fn a_full_ring_coalesces_state_and_drops_dtls() {
        let (mut control, mut link) = link::links(0, 2, 2).unwrap();
        let (stats, mut outbox) = (WorkerStats::default(), Outbox::default());
        for event in
            [activity(9, true), activity(8, true), activity(1, true), activity(2, true), activity(1, false), dtls()]
        {
            outbox.send(event, &mut link, &stats);
        }
        assert_eq!(stats.get(Counter::DropEventFull), 1);
        outbox.retry(&mut link);
        assert_eq!(control.poll_event(), Some(activity(9, true)));
        // There is room now, but what waits is older.
        outbox.send(activity(2, false), &mut link, &stats);
        assert_eq!(control.poll_event(), Some(activity(8, true)));
        assert_eq!(control.poll_event(), None);
        outbox.retry(&mut link);
        assert_eq!(control.poll_event(), Some(activity(1, false)), "the latest wins");
        assert_eq!(control.poll_event(), Some(activity(2, false)));
        assert!(outbox.is_empty());
        outbox.send(dtls(), &mut link, &stats);
        assert_eq!(control.poll_event(), Some(dtls()));
        assert_eq!(stats.get(Counter::DropEventFull), 1);
    }
}
