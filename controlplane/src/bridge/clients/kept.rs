//! Data channels whose sessions former processes have (docs/upgrade.md).

use std::time::Instant;

use ringbridge_dataplane::ids::EndpointId;

use super::table::Clients;
use crate::bridge::dtls_transport::KeptEvent;
use crate::channel::keeper::KeeperNumber;

impl Clients {
    /// A keeper says something of the session of an endpoint or a relay.
    pub fn handle_kept(&mut self, now: Instant, keeper: KeeperNumber, id: EndpointId, event: KeptEvent) {
        // It may be gone by now, or the keeper may be wrong.
        let Some(dtls) = self.dtls(id) else { return };
        dtls.handle_kept(keeper, event);
        self.drain(now, id);
    }

    /// A keeper is gone: how many open channels were lost.
    pub fn lose_keeper(&mut self, now: Instant, keeper: KeeperNumber) -> usize {
        let of_it = self.transports().filter(|(_, dtls)| dtls.keeper() == Some(keeper));
        let mut of_it: Vec<_> = of_it.map(|(id, dtls)| (id, dtls.has_open_channel())).collect();
        of_it.sort_unstable();
        for (id, _) in &of_it {
            self.handle_kept(now, keeper, *id, KeptEvent::Lost);
        }
        of_it.iter().filter(|(_, open)| *open).count()
    }

    /// Sessions that former processes have.
    pub fn kept(&self) -> usize {
        self.transports().filter(|(_, dtls)| dtls.keeper().is_some()).count()
    }

    /// Counts what a keeper counted.
    pub fn count_kept(&self, which: u8, times: u32) {
        self.channel_counters.add_at(which, times);
    }
}
