//! Why a request is refused, and how that is said (docs/protocol/bridge.md 3.5).

use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::elements::{ColibriError, Endpoint, Reason};
use crate::xmpp::iq::stanza_error;

/// A refused request (section 3.5).
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The stanza error's condition.
    pub condition: DefinedCondition,
    /// colibri2's reason, where it has one.
    pub reason: Option<Reason>,
    /// The unknown endpoint.
    pub endpoint: Option<String>,
    /// The bound that it ran into, if that is why.
    pub bound: Option<Bound>,
    /// For people.
    pub text: String,
}

/// A bound that a creation can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Conferences of the bridge.
    Conferences,
    /// Endpoints of the bridge: no worker has room for one more.
    Endpoints,
    /// Endpoints of one conference.
    ConferenceEndpoints,
    /// Relays of one conference.
    Relays,
}

impl Bound {
    /// What a focus makes of it. `resource-constraint` moves the conference to another bridge, which helps when this one is
    /// full. One conference that is too large would not fit there either: `bad-request` fails the newcomer alone.
    fn condition(self) -> DefinedCondition {
        match self {
            Self::Conferences | Self::Endpoints => DefinedCondition::ResourceConstraint,
            Self::ConferenceEndpoints | Self::Relays => DefinedCondition::BadRequest,
        }
    }
}

impl Refusal {
    pub(super) fn new(condition: DefinedCondition, reason: Option<Reason>, text: impl Into<String>) -> Self {
        Self { condition, reason, endpoint: None, bound: None, text: text.into() }
    }

    /// A creation beyond a bound.
    pub(super) fn beyond(bound: Bound, text: impl Into<String>) -> Self {
        Self { bound: Some(bound), ..Self::new(bound.condition(), None, text) }
    }

    /// A request that does not parse.
    pub fn malformed(text: impl Into<String>) -> Self {
        Self::new(DefinedCondition::BadRequest, None, text)
    }

    /// As it goes into the IQ.
    pub fn to_stanza_error(&self) -> StanzaError {
        let mut error = stanza_error(self.condition.clone(), &self.text);
        error.other = self.reason.map(|reason| {
            ColibriError { reason: Some(reason), endpoint: self.endpoint.as_deref().map(Endpoint::new) }.into()
        });
        error
    }
}
