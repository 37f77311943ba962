//! What the search for public addresses found, one line each for the operator.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::aws::{AwsLookup, Instance};
use super::failure::Failure;
use super::settings::DiscoverySettings;

/// Something to report to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A NAT shows a local address under this one.
    Found {
        /// The local address.
        local: IpAddr,
        /// As others see it.
        public: IpAddr,
        /// Who says so.
        source: String,
    },
    /// Nothing stands between a local address and the server.
    NoNat {
        /// The local address.
        local: IpAddr,
        /// Who says so.
        source: String,
    },
    /// No STUN server answered in time.
    Silent {
        /// Every server with its reason.
        servers: Vec<String>,
    },
    /// No server answered for one local address, while others are known.
    SilentOf {
        /// The local address.
        local: IpAddr,
    },
    /// The media port is shown under another number.
    OtherPort {
        /// The socket that was asked from.
        local: SocketAddr,
        /// As others see it.
        public: SocketAddr,
    },
    /// Two servers see one socket under two addresses.
    Differs {
        /// The socket that was asked from.
        local: SocketAddr,
        /// As the one server sees it.
        one: (SocketAddr, String),
        /// As the other server sees it.
        other: (SocketAddr, String),
    },
    /// The metadata service did not answer.
    NoMetadata {
        /// Where it was looked for.
        service: SocketAddr,
        /// Why no address was found.
        reason: String,
        /// Whether the operator said that it is there.
        wanted: bool,
    },
    /// The metadata service names a local address that the bridge does not use.
    ForeignMetadata {
        /// What it says is ours.
        local: IpAddr,
        /// Its public address, which is taken for the first local one.
        public: IpAddr,
    },
}

impl Finding {
    /// What the metadata service said, where the bridge has these local addresses.
    pub fn of_metadata(settings: &DiscoverySettings, hosts: &[IpAddr], result: Result<Instance, Failure>) -> Self {
        let service = settings.aws_service;
        match result {
            Ok(Instance { local, public }) => {
                let (local, public) = (local.into(), public.into());
                if hosts.contains(&local) {
                    Self::Found { local, public, source: format!("instance metadata at {service}") }
                } else {
                    Self::ForeignMetadata { local, public }
                }
            }
            Err(failure) => {
                let wanted = settings.aws == AwsLookup::On;
                Self::NoMetadata { service, reason: failure.reason().to_owned(), wanted }
            }
        }
    }

    /// Whether nothing was found by a search that was asked for.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::NoMetadata { wanted: true, .. })
    }

    /// Whether clients outside may be lost by it.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::OtherPort { .. } | Self::Differs { .. } => true,
            Self::NoMetadata { wanted, .. } => *wanted,
            Self::Found { .. } | Self::NoNat { .. } | Self::SilentOf { .. } | Self::ForeignMetadata { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { local, public, source } => {
                write!(f, "public address {public} of {local} found by {source}")
            }
            Self::NoNat { local, source } => write!(f, "no NAT before {local}: {source} sees it as it is"),
            Self::Silent { servers } => write!(
                f,
                "no STUN server reported the public address ({}): clients outside this network get none; let UDP pass to a server, or \
                 name the address in bridge.public-addresses (JVB_ADVERTISE_IPS), or turn the search off: \
                 bridge.discovery.stun-servers = \"\" (JVB_DISABLE_STUN=1)",
                servers.join(", ")
            ),
            Self::SilentOf { local } => {
                write!(f, "no STUN server reported the public address of {local}; others are known")
            }
            Self::OtherPort { local, public } => write!(
                f,
                "the NAT before {} shows UDP port {} as {}: it is not a plain port forward; forward UDP port {} of {} to it, or \
                 name what is forwarded in bridge.public-addresses, e.g. {}={}#PORT",
                local.ip(),
                local.port(),
                public.port(),
                local.port(),
                public.ip(),
                local.ip(),
                public.ip()
            ),
            Self::Differs { local, one, other } => write!(
                f,
                "the NAT before {} shows it as {} to {} and as {} to {}: it is not a plain port forward; forward UDP port {} to it, \
                 and name the address that is forwarded in bridge.public-addresses, e.g. {}=ADDRESS#PORT",
                local.ip(),
                one.0,
                one.1,
                other.0,
                other.1,
                local.port(),
                local.ip()
            ),
            Self::NoMetadata { service, reason, wanted: false } => {
                write!(f, "no instance metadata at {service} ({reason}): assuming that this host is not on AWS")
            }
            Self::NoMetadata { service, reason, wanted: true } => write!(
                f,
                "no public address by instance metadata at {service} ({reason}): let the instance reach it (IMDSv2, hop limit 2 \
                 for containers), or name the address in bridge.public-addresses, or set bridge.discovery.aws = off"
            ),
            Self::ForeignMetadata { local, public } => write!(
                f,
                "instance metadata names {local}, which is not a local address of the bridge: its public address {public} is \
                 taken for the first local one"
            ),
        }
    }
}
