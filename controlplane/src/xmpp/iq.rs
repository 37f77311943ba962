//! Replies to IQ requests.

use tokio_xmpp::jid::Jid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

/// Where a request came from and how its answer is addressed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// Sender; `None` is our own server.
    pub from: Option<Jid>,
    /// Address that was asked.
    pub to: Option<Jid>,
    /// Stanza id.
    pub id: String,
    /// The payload.
    #[serde(with = "super::element_text")]
    pub payload: Element,
    /// Whether it is of type `set`.
    pub set: bool,
}

impl Request {
    /// The request in an IQ; gives results and errors back.
    #[allow(clippy::result_large_err)] // The caller gives it away and wants it back.
    pub fn from_iq(iq: Iq) -> Result<Self, Iq> {
        match iq {
            Iq::Get { from, to, id, payload } => Ok(Self { from, to, id, payload, set: false }),
            Iq::Set { from, to, id, payload } => Ok(Self { from, to, id, payload, set: true }),
            other => Err(other),
        }
    }

    /// The IQ that it came in.
    pub fn into_iq(self) -> Iq {
        let Self { from, to, id, payload, set } = self;
        match set {
            true => Iq::Set { from, to, id, payload },
            false => Iq::Get { from, to, id, payload },
        }
    }

    /// A `result` with or without payload.
    pub fn result(&self, payload: Option<Element>) -> Iq {
        Iq::Result { from: None, to: self.from.clone(), id: self.id.clone(), payload }
    }

    /// An `error`.
    pub fn error(&self, error: StanzaError) -> Iq {
        Iq::Error { from: None, to: self.from.clone(), id: self.id.clone(), error, payload: None }
    }

    /// An `error` of the usual type of its condition, with a text.
    pub fn refuse(&self, condition: DefinedCondition, text: &str) -> Iq {
        self.error(stanza_error(condition, text))
    }
}

/// A stanza error with the type that RFC 6120 section 8.3.3 gives its condition.
pub fn stanza_error(condition: DefinedCondition, text: &str) -> StanzaError {
    let kind = match condition {
        DefinedCondition::BadRequest => ErrorType::Modify,
        DefinedCondition::Forbidden => ErrorType::Auth,
        DefinedCondition::InternalServerError => ErrorType::Wait,
        _ => ErrorType::Cancel,
    };
    let mut error = StanzaError::new(kind, condition, "en", text);
    if text.is_empty() {
        error.texts.clear();
    }
    error
}
