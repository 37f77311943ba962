//! Which worker gets what: conferences spread evenly, and one that outgrows its share of a worker spills to others.

/// Stress from which a worker gets nothing new as long as another one has less.
const STRAINED: f64 = 0.75;

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    endpoints: usize,
    conferences: usize,
    stress: f64,
    /// It refused an endpoint since the last one left it.
    refused: bool,
}

impl Load {
    fn strained(&self) -> bool {
        self.stress >= STRAINED
    }
}

/// Part of a conference on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// The worker.
    pub worker: usize,
    /// Endpoints of the conference on it.
    pub endpoints: usize,
}

/// What every worker carries.
#[derive(Debug)]
pub(super) struct Placement {
    loads: Vec<Load>,
    spill_endpoints: usize,
    /// Endpoints that a worker takes.
    capacity: usize,
}

impl Placement {
    /// Idle workers, at least one, with room for `capacity` endpoints each; `spill_endpoints` is the share of one conference,
    /// at least 1.
    pub fn new(workers: usize, spill_endpoints: usize, capacity: usize) -> Self {
        Self { loads: vec![Load::default(); workers.max(1)], spill_endpoints: spill_endpoints.max(1), capacity }
    }

    /// Whether a worker takes one more endpoint.
    pub fn has_room(&self) -> bool {
        (0..self.loads.len()).any(|worker| self.takes(worker))
    }

    fn takes(&self, worker: usize) -> bool {
        self.loads.get(worker).is_some_and(|load| load.endpoints < self.capacity && !load.refused)
    }

    /// A worker refused an endpoint although it should have had room: it gets no other until one leaves it.
    pub fn set_refused(&mut self, worker: usize) {
        if let Some(load) = self.loads.get_mut(worker) {
            load.refused = true;
        }
    }

    /// The worker for a new conference: the least loaded.
    pub fn for_conference(&self) -> usize {
        self.least_loaded(|worker| self.takes(worker)).unwrap_or(0)
    }

    /// The worker for a new endpoint, if one has room; `shares` is where its conference is, in the order in which it got there.
    pub fn for_endpoint(&self, shares: &[Share]) -> Option<usize> {
        let relaxed = |worker: usize| self.takes(worker) && self.loads.get(worker).is_some_and(|load| !load.strained());
        let room = shares.iter().find(|s| s.endpoints < self.spill_endpoints && relaxed(s.worker));
        if let Some(share) = room {
            return Some(share.worker);
        }
        let elsewhere = |worker: usize| relaxed(worker) && !shares.iter().any(|s| s.worker == worker);
        self.least_loaded(elsewhere).or_else(|| self.least_loaded(relaxed)).or_else(|| self.least_stressed())
    }

    fn least_loaded(&self, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let candidates = self.loads.iter().enumerate().filter(|(worker, _)| eligible(*worker));
        candidates.min_by_key(|(_, l)| (l.strained(), l.endpoints, l.conferences)).map(|(worker, _)| worker)
    }

    fn least_stressed(&self) -> Option<usize> {
        let stress = |(_, load): &(usize, &Load)| load.stress;
        let candidates = self.loads.iter().enumerate().filter(|(worker, _)| self.takes(*worker));
        candidates.min_by(|a, b| stress(a).total_cmp(&stress(b))).map(|(worker, _)| worker)
    }

    /// Takes the workers' stress as measured, in order.
    pub fn set_stress(&mut self, stress: impl IntoIterator<Item = f64>) {
        for (load, stress) in self.loads.iter_mut().zip(stress) {
            load.stress = stress;
        }
    }

    /// A conference came to a worker (`1`) or left it (`-1`).
    pub fn count_conference(&mut self, worker: usize, change: isize) {
        if let Some(load) = self.loads.get_mut(worker) {
            load.conferences = load.conferences.saturating_add_signed(change);
        }
    }

    /// An endpoint came to a worker (`1`) or left it (`-1`).
    pub fn count_endpoint(&mut self, worker: usize, change: isize) {
        if let Some(load) = self.loads.get_mut(worker) {
            load.endpoints = load.endpoints.saturating_add_signed(change);
            load.refused &= change > 0;
        }
    }

    /// Of each worker, whether it refused an endpoint since the last one left it.
    pub fn refused(&self) -> Vec<bool> {
        self.loads.iter().map(|load| load.refused).collect()
    }

    /// Conferences and endpoints that are counted for every worker.
    pub fn carried(&self) -> Vec<(usize, usize)> {
        self.loads.iter().map(|load| (load.conferences, load.endpoints)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `count` endpoints join a conference; how many are on each worker then.
    fn join(placement: &mut Placement, shares: &mut Vec<Share>, count: usize) -> Vec<usize> {
        for _ in 0..count {
            let worker = match shares.is_empty() {
                true => placement.for_conference(),
                false => placement.for_endpoint(shares).expect("room"),
            };
            match shares.iter_mut().find(|s| s.worker == worker) {
                Some(share) => share.endpoints += 1,
                None => {
                    shares.push(Share { worker, endpoints: 1 });
                    placement.count_conference(worker, 1);
                }
            }
            placement.count_endpoint(worker, 1);
        }
        let on = |worker| shares.iter().find(|s| s.worker == worker).map_or(0, |s| s.endpoints);
        (0..placement.loads.len()).map(on).collect()
    }

    #[test]
    fn a_conference_stays_together_until_it_outgrows_its_share() {
        let mut placement = Placement::new(3, 10, 100);
        let mut shares = Vec::new();
        assert_eq!(join(&mut placement, &mut shares, 10), [10, 0, 0]);
        assert_eq!(join(&mut placement, &mut shares, 1), [10, 1, 0]);
        assert_eq!(join(&mut placement, &mut shares, 19), [10, 10, 10]);
        // Larger than all shares together: evenly on top.
        assert_eq!(join(&mut placement, &mut shares, 31), [21, 20, 20]);
        // A gap is filled before another worker is drawn in.
        shares.iter_mut().for_each(|s| s.endpoints = 10);
        shares[1].endpoints = 4;
        assert_eq!(placement.for_endpoint(&shares), Some(1));
    }

    #[test]
    fn a_full_worker_gets_nothing_and_full_ones_take_nobody() {
        let mut placement = Placement::new(2, 50, 3);
        let mut shares = Vec::new();
        assert_eq!(join(&mut placement, &mut shares, 4), [3, 1]);
        placement.set_stress([0.0, 2.0]);
        assert_eq!(placement.for_endpoint(&shares), Some(1), "strained is better than full");
        assert_eq!(join(&mut placement, &mut shares, 2), [3, 3]);
        assert_eq!((placement.has_room(), placement.for_endpoint(&shares)), (false, None));
        placement.count_endpoint(0, -1);
        assert_eq!((placement.has_room(), placement.for_endpoint(&shares)), (true, Some(0)));
        // A worker that knows better.
        placement.set_refused(0);
        assert_eq!((placement.has_room(), placement.for_endpoint(&shares)), (false, None));
        placement.count_endpoint(0, -1);
        assert_eq!(placement.for_endpoint(&shares), Some(0), "somebody left");
    }

    #[test]
    fn several_conferences_fill_all_workers_evenly() {
        let mut placement = Placement::new(4, 50, 1_000);
        for _ in 0..8 {
            join(&mut placement, &mut Vec::new(), 20);
        }
        assert!(placement.loads.iter().all(|load| (load.endpoints, load.conferences) == (40, 2)), "{placement:?}");
        // What a large one spills goes where there is most room.
        let mut large = Vec::new();
        join(&mut placement, &mut large, 200);
        assert!(placement.loads.iter().all(|load| load.endpoints == 90), "{placement:?}");
    }

    #[test]
    fn a_strained_worker_gets_nothing_new_while_another_has_room() {
        let mut placement = Placement::new(2, 10, 100);
        let mut shares = Vec::new();
        join(&mut placement, &mut shares, 3);
        placement.set_stress([STRAINED, 0.1]);
        assert_eq!(join(&mut placement, &mut shares, 2), [3, 2]);
        assert_eq!(placement.for_conference(), 1);
        placement.set_stress([1.3, 0.8]);
        assert_eq!(placement.for_endpoint(&shares), Some(1), "the lesser evil");
        placement.set_stress([0.2, 0.2]);
        assert_eq!(placement.for_endpoint(&shares), Some(0), "back where most of it is");
    }

    #[test]
    fn one_worker_takes_everything() {
        let mut placement = Placement::new(0, 0, 100);
        let mut shares = Vec::new();
        assert_eq!(join(&mut placement, &mut shares, 5), [5]);
        placement.set_stress([2.0]);
        assert_eq!(join(&mut placement, &mut shares, 5), [10]);
    }
}
