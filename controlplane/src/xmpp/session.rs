//! What outlives a broken stream, so that it can be resumed (XEP-0198).

use std::collections::VecDeque;

use jid::FullJid;
use tokio_xmpp::minidom::Element;

use super::handover::CarriedSession;
use super::reader::{Item, Reader, is_stanza};

/// Stanzas that the server may leave unacknowledged.
pub(super) const MAX_UNACKED: usize = 4_096;
/// An acknowledgement is asked for after so many.
const ACK_AFTER: usize = 16;
/// Resumptions in a row that brought no stanza before the session is given up for a new one.
const MAX_VAIN_RESUMPTIONS: u32 = 2;

/// What is to be done after a stanza was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterSend {
    /// Nothing.
    Nothing,
    /// Ask for an acknowledgement.
    AskForAck,
    /// Give up: the server acknowledged none of [`MAX_UNACKED`]. The session is not resumed.
    GiveUp,
}

/// A session with the server.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// `None` when the server does not resume, or when nothing is left to resume.
    resume_id: Option<String>,
    /// Whether acknowledgements are on.
    managed: bool,
    /// Stanzas that we received.
    received: u32,
    /// Stanzas that the server acknowledged.
    acked: u32,
    /// Stanzas sent and not acknowledged.
    unacked: VecDeque<Element>,
    /// Our address.
    jid: Option<FullJid>,
    /// Resumptions in a row after which no stanza was received.
    vain: u32,
}

impl Session {
    /// A new session under this address; nothing is resumed or acknowledged yet.
    pub fn new(jid: FullJid) -> Self {
        Self { jid: Some(jid), ..Self::default() }
    }

    /// That of a process that ended. What it sent and did not get acknowledged is lost.
    pub fn of_former_process(resume_id: String, jid: FullJid, received: u32) -> Self {
        Self { resume_id: Some(resume_id), managed: true, received, jid: Some(jid), ..Self::default() }
    }

    /// Acknowledgements are on from now on, and with an id it can be resumed.
    pub fn manage(&mut self, resume_id: Option<String>) {
        self.managed = true;
        self.resume_id = resume_id;
    }

    /// The server was asked for acknowledgements: it counts what it is sent from here on (XEP-0198 section 3).
    pub fn ask(&mut self) {
        (self.managed, self.acked) = (true, 0);
        self.unacked.clear();
    }

    /// The server agreed: what it sends is counted from here on.
    pub fn agreed(&mut self, resume_id: Option<String>) {
        self.received = 0;
        self.resume_id = resume_id;
    }

    /// The server declined.
    pub fn declined(&mut self) {
        self.managed = false;
        self.unacked.clear();
    }

    /// Whether acknowledgements are on.
    pub fn is_managed(&self) -> bool {
        self.managed
    }

    /// For another process; `None` when nothing is left to resume.
    pub fn carried(&self) -> Option<CarriedSession> {
        // How often it was resumed in vain says something of this process.
        let Self { resume_id, managed: _, received, acked, unacked, jid, vain: _ } = self;
        Some(CarriedSession {
            resume_id: resume_id.clone()?,
            jid: jid.as_ref()?.to_string(),
            received: *received,
            acked: *acked,
            unacked: unacked.iter().map(String::from).collect(),
        })
    }

    /// That of another process; `None` when it is none.
    pub fn from_carried(carried: CarriedSession) -> Option<Self> {
        let CarriedSession { resume_id, jid, received, acked, unacked } = carried;
        if unacked.len() > MAX_UNACKED {
            return None;
        }
        let stanza = |xml: &String| match Reader::default().next(&mut xml.as_bytes())? {
            Item::Element(element) => Some(element).filter(is_stanza),
            _ => None,
        };
        let unacked = unacked.iter().map(stanza).collect::<Option<_>>()?;
        let jid = Some(FullJid::new(&jid).ok()?);
        Some(Self { resume_id: Some(resume_id), managed: true, received, acked, unacked, jid, vain: 0 })
    }

    /// By what it is resumed, and our address in it.
    pub fn resumable(&self) -> Option<(&str, &FullJid)> {
        Some((self.resume_id.as_deref()?, self.jid.as_ref()?))
    }

    /// Nothing is left to resume.
    pub fn abandon(&mut self) {
        self.resume_id = None;
    }

    /// Stanzas that we received.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// A stanza came.
    pub fn count_received(&mut self) {
        self.received = self.received.wrapping_add(1);
    }

    /// Stanzas that the server may not have got.
    pub fn unacked(&self) -> &VecDeque<Element> {
        &self.unacked
    }

    /// A stanza was sent; it is kept until it is acknowledged.
    pub fn sent(&mut self, stanza: Element) -> AfterSend {
        if !self.managed {
            return AfterSend::Nothing;
        }
        self.unacked.push_back(stanza);
        if self.unacked.len() > MAX_UNACKED {
            self.abandon();
            return AfterSend::GiveUp;
        }
        if self.unacked.len().is_multiple_of(ACK_AFTER) { AfterSend::AskForAck } else { AfterSend::Nothing }
    }

    /// Handles the counter of an `<a/>` or `<resumed/>`.
    pub fn acknowledge(&mut self, h: u32) {
        let n = (h.wrapping_sub(self.acked) as usize).min(self.unacked.len());
        self.unacked.drain(..n);
        self.acked = h;
    }

    /// A stream has ended that began when `received` stanzas had been received. What ends streams at the same stanza again and
    /// again must not be resumed for ever.
    pub fn served(&mut self, resumed: bool, received: u32) {
        self.vain = if resumed && self.received == received { self.vain + 1 } else { 0 };
        if self.vain >= MAX_VAIN_RESUMPTIONS {
            tracing::warn!("the XMPP session cannot be resumed; starting a new one");
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut session = Session::new("a@b/c".parse().expect("an address"));
        session.manage(Some("id".to_owned()));
        session
    }

    #[test]
    fn resumptions_that_bring_nothing_give_way_to_a_new_session() {
        let mut session = session();
        (0..7).for_each(|_| session.count_received());
        session.served(true, 7);
        assert!(session.resumable().is_some(), "once may be a bad network");
        session.served(true, 6);
        session.served(true, 7);
        assert!(session.resumable().is_some(), "one in between brought something");
        session.served(true, 7);
        assert_eq!((session.resumable(), session.received()), (None, 0));
    }

    #[test]
    fn another_process_goes_on_with_what_was_not_acknowledged() {
        let stanza = |text: &str| format!("<message xmlns='jabber:client' to='a@b'><body>{text} &lt;</body></message>");
        let mut session = Session::new("a@b/c".parse().expect("an address"));
        assert_eq!(session.carried(), None, "the server keeps nothing");
        session.sent(stanza("before").parse().expect("a stanza"));
        session.ask();
        session.sent(stanza("first").parse().expect("a stanza"));
        (0..3).for_each(|_| session.count_received());
        session.agreed(Some("id".to_owned()));
        (0..7).for_each(|_| session.count_received());
        session.sent(stanza("second").parse().expect("a stanza"));
        session.acknowledge(1);
        let carried = session.carried().expect("it is kept");
        let other = Session::from_carried(carried.clone()).expect("it is read");
        assert_eq!(other.resumable().map(|(id, jid)| (id, jid.to_string())), Some(("id", "a@b/c".to_owned())));
        assert_eq!((other.received(), other.unacked().len()), (7, 1));
        assert_eq!(other.carried(), Some(carried.clone()));
        for wrong in [
            CarriedSession { jid: "a@b".to_owned(), ..carried.clone() },
            CarriedSession { unacked: vec!["<message".to_owned()], ..carried.clone() },
            CarriedSession { unacked: vec!["<stream:error/>".to_owned()], ..carried.clone() },
            CarriedSession { unacked: vec![stanza("x"); MAX_UNACKED + 1], ..carried },
        ] {
            assert!(Session::from_carried(wrong).is_none());
        }
        session.declined();
        assert_eq!(
            (session.sent(stanza("third").parse().expect("a stanza")), session.unacked().len()),
            (AfterSend::Nothing, 0)
        );
    }

    #[test]
    fn what_is_not_acknowledged_is_kept_up_to_a_bound() {
        let stanza = || Element::bare("message", "jabber:client");
        let mut session = session();
        let asked = (0..MAX_UNACKED).filter(|_| session.sent(stanza()) == AfterSend::AskForAck).count();
        assert_eq!((asked, session.unacked().len()), (MAX_UNACKED / ACK_AFTER, MAX_UNACKED));
        session.acknowledge(4);
        assert_eq!(session.unacked().len(), MAX_UNACKED - 4);
        session.acknowledge(u32::MAX);
        assert_eq!(session.unacked().len(), 0, "a count beyond what was sent acknowledges all there is");
        for _ in 0..MAX_UNACKED {
            assert_ne!(session.sent(stanza()), AfterSend::GiveUp);
        }
        assert!(session.resumable().is_some());
        assert_eq!((session.sent(stanza()), session.resumable()), (AfterSend::GiveUp, None));
        let mut plain = Session::new("a@b/c".parse().expect("an address"));
        assert_eq!((plain.sent(stanza()), plain.unacked().len()), (AfterSend::Nothing, 0));
    }
}
