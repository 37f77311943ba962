//! When the DTLS session or data channel of each client waits for time.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use ringbridge_dataplane::ids::EndpointId;

/// At most one deadline per client, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, EndpointId)>,
    by_client: HashMap<EndpointId, Instant>,
}

impl Timers {
    /// Replaces the deadline of a client.
    pub(super) fn set(&mut self, id: EndpointId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_client.insert(id, at),
            None => self.by_client.remove(&id),
        };
        if before != at {
            if let Some(before) = before {
                self.by_time.remove(&(before, id));
            }
            self.by_time.extend(at.map(|at| (at, id)));
        }
    }

    /// The earliest deadline.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The clients whose deadline has come.
    pub(super) fn due(&self, now: Instant) -> Vec<EndpointId> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// The clients that have a deadline.
    pub(super) fn clients(&self) -> impl Iterator<Item = &EndpointId> {
        self.by_client.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_client_has_one_deadline() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (a, b) = (EndpointId(1), EndpointId(2));
        timers.set(a, Some(at(5)));
        timers.set(b, Some(at(3)));
        timers.set(a, Some(at(1)));
        timers.set(a, Some(at(1)));
        assert_eq!((timers.len(), timers.first(), timers.due(at(2))), (2, Some(at(1)), vec![a]));
        assert_eq!(timers.due(at(5)), [a, b]);
        timers.set(a, None);
        timers.set(a, None);
        assert_eq!((timers.len(), timers.first(), timers.due(at(5))), (1, Some(at(3)), vec![b]));
        timers.set(b, None);
        assert_eq!((timers.len(), timers.first(), timers.clients().count()), (0, None, 0));
    }
}
