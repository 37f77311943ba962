//! A whole bridge as a process of its own: what its focus asks and what it answers, a line of JSON each.

use std::io::{BufRead, Write};
use std::net::SocketAddr;

use ringbridge_controlplane::xmpp::XmppEvent;
use serde::{Deserialize, Serialize};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

use super::{Whole, WholeOptions, failed, stanza};
use crate::subject::SubjectError;

/// Something that is asked of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Returns in the answer.
    pub id: String,
    /// `conference-modify` as text.
    pub payload: String,
}

/// Something that it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It has started; here are its pages.
    Ready(SocketAddr),
    /// The answer to a request.
    Answer {
        /// Id of the request.
        id: String,
        /// `conference-modified` as text.
        payload: Option<String>,
    },
    /// A request that it refused.
    Refused {
        /// Id of the request.
        id: String,
        /// Why it failed.
        error: String,
    },
}

/// Runs a bridge that reads requests from standard input and writes to standard output; ends with its input.
pub fn serve(options: &WholeOptions) -> Result<bool, SubjectError> {
    let mut whole = Whole::start(options)?;
    let mut output = std::io::stdout().lock();
    let mut say = |reply: &Reply| -> Result<(), SubjectError> {
        let line = serde_json::to_string(reply).map_err(failed)?;
        writeln!(output, "{line}").and_then(|()| output.flush()).map_err(failed)
    };
    say(&Reply::Ready(whole.rest))?;
    let events = whole.events.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let event = serde_json::from_str(&line).map_err(failed).and_then(|Request { id, payload }| {
                let payload: Element = payload.parse().map_err(failed)?;
                Ok(XmppEvent::Stanza(stanza(id, payload, true)?))
            });
            match event {
                Ok(event) => {
                    if events.blocking_send((0, event)).is_err() {
                        break;
                    }
                }
                Err(error) => tracing::error!(%error, line, "a request cannot be read"),
            }
        }
        // Whoever measures has ended.
        std::process::exit(0);
    });
    loop {
        match whole.stanzas.blocking_recv() {
            Some(Stanza::Iq(Iq::Result { id, payload, .. })) => {
                say(&Reply::Answer { id, payload: payload.as_ref().map(String::from) })?;
            }
            Some(Stanza::Iq(Iq::Error { id, error, .. })) => {
                say(&Reply::Refused { id, error: format!("{error:?}") })?;
            }
            Some(_) => {}
            None => return Err(whole.ended()),
        }
    }
}
