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
}

impl Traffic {
    /// What was added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            refused: self.refused - before.refused,
            arrived: self.arrived - before.arrived,
            overflowed: self.overflowed.saturating_sub(before.overflowed),
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
    /// Those that nobody counted: 0, or somebody loses packets without saying so.
    pub unaccounted: i64,
    /// Whether the kernel dropped datagrams for want of room, among which may have been others than media: then the account is
    /// not exact.
    pub overflowed: bool,
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
        Self {
            expected,
            arrived,
            generator_lost,
            unaccounted: expected as i64 - known as i64,
            overflowed: traffic.overflowed > 0 || own.lost_before.contains_key("socket_overflow"),
            left_out,
        }
    }

    /// Whether every packet was accounted for.
    pub fn is_whole(&self) -> bool {
        self.unaccounted == 0 || self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_somewhere() {
        let traffic = Traffic { sent: 10, refused: 1, arrived: 13, overflowed: 0 };
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
        let lost = Traffic { overflowed: 2, ..traffic };
        assert!(Account::of(lost, 2, &own).is_whole());
    }
}
