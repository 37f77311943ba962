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
    /// For people.
    pub text: String,
}

impl Refusal {
    pub(super) fn new(condition: DefinedCondition, reason: Option<Reason>, text: impl Into<String>) -> Self {
        Self { condition, reason, endpoint: None, text: text.into() }
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
