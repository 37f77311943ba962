//! Where the packets went: every packet that a client sent arrives at each receiver, or somebody counts it with a reason.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::subject::OwnCounters;

/// Packets from the moment that media begins until nothing is under way any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that clients sent.
    pub sent: u64,
    /// Those of them that the kernel did not take, since the generator's own socket was full.
    pub refused: u64,
    /// RTP packets that came to the clients.
    pub arrived: u64,
    /// Datagrams that the kernel dropped since the generator was too slow to read them.
    pub overflowed: u64,
    /// Datagrams other than media that clients sent.
    pub others: u64,
}

impl Traffic {
    /// What was added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            refused: self.refused - before.refused,
            arrived: self.arrived - before.arrived,
            overflowed: self.overflowed.saturating_sub(before.overflowed),
            others: self.others - before.others,
        }
    }
}

/// What became of every packet, once per receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Packets sent, times the receivers of each.
    pub expected: u64,
    /// Packets that arrived; repeated ones are not among them.
    pub arrived: u64,
    /// Those that the generator itself lost.
    pub generator_lost: u64,
    /// Those that the bridge dropped or left out, by its own reasons. What was lost before the receivers were known counts for each.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Those that nobody counted: more than 0, and somebody loses packets without saying so. It may be less by `counted_beyond`.
    pub unaccounted: i64,
    /// What the kernel dropped for want of room is counted as media; so many packets at most were not: clients' checks of their
    /// connections, once per receiver, and whatever else came to the generator.
    pub counted_beyond: u64,
}

impl Account {
    /// The account of what went on between two looks at a bridge's own counters.
    pub fn of(traffic: Traffic, fan_out: u64, own: &OwnCounters) -> Self {
        let mut left_out = own.left_out.clone();
        for (reason, packets) in &own.lost_before {
            *left_out.entry(reason).or_default() += packets * fan_out;
        }
        let expected = traffic.sent * fan_out;
        let arrived = traffic.arrived.saturating_sub(own.repeated);
        let generator_lost = traffic.refused * fan_out + traffic.overflowed;
        let known = arrived + generator_lost + left_out.values().sum::<u64>();
        let full = own.lost_before.get("socket_overflow").copied().unwrap_or(0);
        Self {
            expected,
            arrived,
            generator_lost,
            unaccounted: expected as i64 - known as i64,
            counted_beyond: full.min(traffic.others) * fan_out + traffic.overflowed,
            left_out,
        }
    }

    /// Whether every packet was accounted for.
    pub fn is_whole(&self) -> bool {
        self.unaccounted <= 0 && self.unaccounted.unsigned_abs() <= self.counted_beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_somewhere() {
        let traffic = Traffic { sent: 10, refused: 1, arrived: 13, overflowed: 0, others: 3 };
        let own = OwnCounters {
            left_out: BTreeMap::from([("not_connected", 1), ("shed", 2)]),
            lost_before: BTreeMap::from([("srtp_auth", 1)]),
            repeated: 2,
            ..OwnCounters::default()
        };
        let account = Account::of(traffic, 2, &own);
        assert_eq!((account.expected, account.arrived, account.generator_lost), (20, 11, 2));
        assert_eq!(account.left_out, BTreeMap::from([("not_connected", 1), ("shed", 2), ("srtp_auth", 2)]));
        assert_eq!((account.unaccounted, account.is_whole()), (2, false));
    }

    #[test]
    fn what_overflows_hides_no_packet_that_nobody_counted() {
        let whole = |arrived, full, overflowed| {
            let traffic = Traffic { sent: 100, refused: 0, arrived, overflowed, others: 5 };
            let lost_before = BTreeMap::from([("socket_overflow", full)]);
            let account = Account::of(traffic, 4, &OwnCounters { lost_before, ..OwnCounters::default() });
            (account.is_whole(), account.unaccounted, account.counted_beyond)
        };
        assert_eq!(whole(360, 10, 0), (true, 0, 20));
        assert_eq!(whole(368, 10, 0), (true, -8, 20), "two of the ten were checks of connections");
        assert_eq!(whole(352, 10, 0), (false, 8, 20), "two packets are nowhere, whatever overflowed");
        assert_eq!(whole(384, 10, 0), (false, -24, 20), "clients sent five others, not six");
        assert_eq!(whole(400, 2, 0), (true, -8, 8), "no more than overflowed");
        assert_eq!(whole(393, 0, 10), (true, -3, 10), "three of the ten that came to the generator were others");
        assert_eq!(whole(389, 0, 10), (false, 1, 10));
    }
}
