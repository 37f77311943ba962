//! What becomes of a client's request.

use xmpp_parsers::stanza_error::DefinedCondition;

/// `Err` is refused with that condition and text.
pub(super) type Outcome = Result<(), (DefinedCondition, String)>;

pub(super) fn refusal(condition: DefinedCondition, text: impl ToString) -> (DefinedCondition, String) {
    (condition, text.to_string())
}

pub(super) fn rate_limited() -> (DefinedCondition, String) {
    refusal(DefinedCondition::ResourceConstraint, "rate-limited")
}
