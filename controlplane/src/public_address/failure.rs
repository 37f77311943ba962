//! Why a public address was not found, and how often.

use crate::metrics::{Family, Kind};

/// Why there is no address from one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// STUN: the server's name has no address.
    Unresolved,
    /// STUN: no answer to any repetition.
    Timeout,
    /// STUN: an error response.
    Refused,
    /// STUN: what came cannot be read, or holds no address.
    Malformed,
    /// STUN: an address that no host has, of the other family, or without a port.
    Unusable,
    /// STUN: an answer that nobody waits for: another id, from elsewhere, late.
    Stray,
    /// The metadata service: no connection, or no answer in time.
    MetadataUnreachable,
    /// The metadata service: a status other than 200.
    MetadataRefused,
    /// The metadata service: what came is too long, or no address that can be used.
    MetadataMalformed,
    /// The metadata service: the instance has no public address.
    MetadataNone,
}

impl Failure {
    /// Every one with the labels `source` and `reason`.
    const ALL: [(Self, &str, &str); 10] = [
        (Self::Unresolved, "stun", "unresolved"),
        (Self::Timeout, "stun", "timeout"),
        (Self::Refused, "stun", "refused"),
        (Self::Malformed, "stun", "malformed"),
        (Self::Unusable, "stun", "unusable"),
        (Self::Stray, "stun", "stray"),
        (Self::MetadataUnreachable, "aws", "unreachable"),
        (Self::MetadataRefused, "aws", "refused"),
        (Self::MetadataMalformed, "aws", "malformed"),
        (Self::MetadataNone, "aws", "no_public_address"),
    ];

    /// In words, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unresolved => "its name has no address",
            Self::Timeout => "no answer",
            Self::Refused => "it refused",
            Self::Malformed => "its answer holds no address",
            Self::Unusable => "its answer holds an address that cannot be used",
            Self::Stray => "an answer to no request of ours",
            Self::MetadataUnreachable => "no answer",
            Self::MetadataRefused => "it refused",
            Self::MetadataMalformed => "its answer is not an address",
            Self::MetadataNone => "the instance has no public IPv4 address",
        }
    }
}

/// How often each happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    counts: [u64; Failure::ALL.len()],
}

impl Failures {
    /// Counts one.
    pub fn count(&mut self, failure: Failure) {
        self.counts[failure as usize] += 1;
    }

    /// How often one happened.
    pub fn get(&self, failure: Failure) -> u64 {
        self.counts[failure as usize]
    }

    /// The sum of two counts.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self { counts: std::array::from_fn(|index| self.counts[index] + other.counts[index]) }
    }

    /// As a metric.
    pub fn family(&self) -> Family {
        let help = "Questions for the public address that were not answered with one.";
        Failure::ALL.iter().fold(
            Family::new("ringbridge_public_address_failed", help, Kind::PlainCounter),
            |family, (failure, source, reason)| {
                family.with(&[("source", source), ("reason", reason)], self.get(*failure) as f64)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_own_place() {
        for (index, (failure, ..)) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, index);
            let mut failures = Failures::default();
            failures.count(*failure);
            assert_eq!(failures.get(*failure), 1);
        }
        assert_eq!(Failures::default().family().samples.len(), Failure::ALL.len());
    }
}
