//! How public addresses are found.

use std::net::{IpAddr, SocketAddr};

use super::address::PublicAddress;
use super::aws;
use super::server::{MAX_SERVERS, StunServer};
use super::unused::unused;

/// How to find public addresses.
#[derive(Debug, Clone)]
pub struct DiscoverySettings {
    /// STUN servers to ask; none asks nobody.
    pub stun_servers: Vec<StunServer>,
    /// Whether to ask the metadata service of AWS.
    pub aws: aws::AwsLookup,
    /// Where that is.
    pub aws_service: SocketAddr,
}

impl Default for DiscoverySettings {
    /// Nobody is asked.
    fn default() -> Self {
        Self { stun_servers: Vec::new(), aws: aws::AwsLookup::Off, aws_service: aws::SERVICE }
    }
}

impl DiscoverySettings {
    /// What of this will not work, for these public addresses that the operator names and these local addresses; a line each.
    pub fn warnings(&self, named: &[PublicAddress], hosts: &[IpAddr]) -> Vec<String> {
        let mut lines: Vec<String> = unused(named, hosts).iter().map(ToString::to_string).collect();
        if let Some(left_out) = self.stun_servers.get(MAX_SERVERS..).filter(|left_out| !left_out.is_empty()) {
            let list = left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "bridge.discovery.stun-servers: {list} is not asked: {} servers are; name fewer",
                MAX_SERVERS
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_beyond_those_that_are_asked_are_named() {
        let stun_servers = (1..=10).map(|n| format!("192.0.2.{n}").parse().unwrap()).collect();
        let mut settings = DiscoverySettings { stun_servers, ..DiscoverySettings::default() };
        let warnings = settings.warnings(&[], &[]);
        assert!(
            matches!(&warnings[..], [line] if line.contains("192.0.2.9:3478, 192.0.2.10:3478 is not asked")),
            "{warnings:?}"
        );
        settings.stun_servers.truncate(MAX_SERVERS);
        assert_eq!(settings.warnings(&[], &[]), Vec::<String>::new());
    }
}
