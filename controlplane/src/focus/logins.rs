//! Who is logged in, on sites where only users with an account begin conferences (docs/protocol/focus.md 2.6).
//!
//! A user of the accounts' domain who asks for a conference gets a session. Its id, with the id of the browser, is as good as the
//! account for as long as the session lasts: a guest who shows both is that user. Guests wait until somebody has begun the conference.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::limits::IMPLAUSIBLE;
use super::xml::{build, escaped};
use crate::jingle::ns;
use crate::xmpp::iq::{Request, stanza_error};

/// Sessions that are kept, and those of one account among them. Beyond it the oldest ends.
const MAX_SESSIONS: usize = 100_000;
const MAX_OF_ACCOUNT: usize = 100;
/// Bytes of a browser's id and of a session's.
const MAX_ID: usize = 200;
/// Sessions that are over are looked for this often.
const LOOK: Duration = Duration::from_secs(10);
/// How long a session with a token lasts: until the client has shown it to another connection of its own.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// How users show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginType {
    /// By an account of the server.
    Xmpp,
    /// By a token that somebody else issues; the client knows where.
    Jwt,
}

/// What login runs with.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// How users show who they are.
    pub kind: LoginType,
    /// The domain of users that are logged in; guests have another one.
    pub domain: BareJid,
    /// How long a session lasts after it was used.
    pub lifetime: Duration,
    /// Whether sessions outlast the conference that they began with.
    pub auto_login: bool,
}

/// One session.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Session {
    /// Id of the browser.
    machine: String,
    account: BareJid,
    /// Who showed it last.
    user: Option<Jid>,
    room: BareJid,
    #[serde(with = "crate::carried")]
    used: Instant,
}

/// The sessions.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Logins {
    #[serde(skip)]
    settings: Option<LoginSettings>,
    sessions: BTreeMap<String, Session>,
    /// Sessions by who showed them last.
    users: BTreeMap<Jid, String>,
    #[serde(with = "crate::carried")]
    look_at: Option<Instant>,
    granted: u64,
}

/// An error that has the client forget its session's id.
fn invalid_session(request: &Request) -> Iq {
    let mut error = stanza_error(DefinedCondition::NotAcceptable, "invalid session");
    error.other = build(&format!("<session-invalid xmlns='{}'/>", ns::FOCUS));
    request.error(error)
}

impl Logins {
    /// Nobody is logged in yet; `None` where nobody has to be.
    pub fn new(settings: Option<LoginSettings>) -> Self {
        let settings = settings.map(|settings| match settings.kind {
            LoginType::Xmpp => settings,
            LoginType::Jwt => {
                LoginSettings { lifetime: settings.lifetime.min(TOKEN_LIFETIME), auto_login: false, ..settings }
            }
        });
        Self { settings, sessions: BTreeMap::new(), users: BTreeMap::new(), look_at: None, granted: 0 }
    }

    /// Goes on with the sessions of another process.
    pub fn go_on_with(&mut self, other: Self) {
        let Self { settings: _, sessions, users, look_at, granted } = self;
        (*sessions, *users, *look_at, *granted) = (other.sessions, other.users, other.look_at, other.granted);
    }

    /// Whether sessions and those who showed them agree.
    pub fn is_sound(&self) -> bool {
        let shown = |(user, id): (&Jid, &String)| self.sessions.get(id).is_some_and(|s| s.user.as_ref() == Some(user));
        let listed = |(id, session): (&String, &Session)| {
            session.user.as_ref().is_none_or(|user| self.users.get(user) == Some(id))
        };
        let bounded = self.sessions.len() <= MAX_SESSIONS && self.granted < IMPLAUSIBLE;
        bounded && self.users.iter().all(shown) && self.sessions.iter().all(listed)
    }

    /// Whether conferences begin with a login.
    pub fn are_required(&self) -> bool {
        self.settings.is_some()
    }

    /// Whether somebody is logged in.
    pub fn includes(&self, user: &Jid) -> bool {
        self.users.contains_key(user)
    }

    /// Properties and attributes of the answer to a request for a conference.
    pub fn describe(&self, user: Option<&Jid>) -> (String, String) {
        let Some(settings) = &self.settings else {
            return ("<property name='authentication' value='false'/>".to_owned(), String::new());
        };
        let external = settings.kind == LoginType::Jwt;
        let properties =
            format!("<property name='authentication' value='true'/><property name='externalAuth' value='{external}'/>");
        let session = user.and_then(|user| self.users.get(user));
        let known = session.and_then(|id| Some((id, self.sessions.get(id)?)));
        let attributes = known.map(|(id, session)| {
            format!(" identity='{}' session-id='{}'", escaped(&session.account.to_string()), escaped(id))
        });
        (properties, attributes.unwrap_or_default())
    }

    /// What a request for a conference shows: true when its sender became somebody who is logged in. An error is the answer.
    pub fn show(
        &mut self,
        now: Instant,
        request: &Request,
        user: Option<&Jid>,
        room: &BareJid,
        id: String,
    ) -> Result<bool, Box<Iq>> {
        let Some(settings) = &self.settings else { return Ok(false) };
        let machine = shown(request, "machine-uid").filter(|machine| machine.len() <= MAX_ID);
        let id = match shown(request, "session-id") {
            Some(id) => {
                let session = self.sessions.get(id).ok_or_else(|| Box::new(invalid_session(request)))?;
                if machine != Some(&session.machine) {
                    let text = "machine UID mismatch or empty";
                    return Err(Box::new(request.refuse(DefinedCondition::NotAcceptable, text)));
                }
                id.to_owned()
            }
            None => {
                let account = user.filter(|user| user.domain() == settings.domain.domain() && user.node().is_some());
                let Some(account) = account.map(Jid::to_bare) else { return Ok(false) };
                let Some(machine) = machine else {
                    let text = "Missing mandatory attribute 'machine-uid'";
                    return Err(Box::new(request.refuse(DefinedCondition::NotAcceptable, text)));
                };
                self.session_of(now, account, machine, room, id)
            }
        };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(false) };
        session.used = now;
        let Some(user) = user else { return Ok(false) };
        tracing::info!(account = %session.account, %user, "logged in");
        if let Some(former) = session.user.replace(user.clone())
            && former != *user
        {
            self.users.remove(&former);
        }
        if let Some(other) = self.users.insert(user.clone(), id.clone()).filter(|other| *other != id)
            && let Some(other) = self.sessions.get_mut(&other)
        {
            other.user = None;
        }
        self.granted += 1;
        Ok(true)
    }

    /// The session of an account in a browser, a new one if there is none.
    fn session_of(&mut self, now: Instant, account: BareJid, machine: &str, room: &BareJid, id: String) -> String {
        let of_account = |session: &Session| session.account == account;
        let known = self.sessions.iter().find(|(_, session)| of_account(session) && session.machine == machine);
        if let Some((id, _)) = known {
            return id.clone();
        }
        let too_many = self.sessions.values().filter(|session| of_account(session)).count() >= MAX_OF_ACCOUNT;
        if too_many || self.sessions.len() >= MAX_SESSIONS {
            let candidates = self.sessions.iter().filter(|(_, session)| !too_many || of_account(session));
            let oldest = candidates.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone());
            self.end(oldest.as_deref().unwrap_or_default());
        }
        let (machine, room) = (machine.to_owned(), room.clone());
        self.sessions.insert(id.clone(), Session { machine, account, user: None, room, used: now });
        self.look_at.get_or_insert(now + LOOK);
        id
    }

    fn end(&mut self, id: &str) -> bool {
        let Some(session) = self.sessions.remove(id) else { return false };
        if let Some(user) = session.user {
            self.users.remove(&user);
        }
        true
    }

    /// Ends a session whose id is shown.
    pub fn log_out(&mut self, request: &Request) -> Iq {
        if !self.end(request.payload.attr("session-id").unwrap_or_default()) {
            return invalid_session(request);
        }
        request.result(build(&format!("<logout xmlns='{}'/>", ns::FOCUS)))
    }

    /// Where a user logs in.
    pub fn login_url(&self, request: &Request) -> Iq {
        let Some(room) =
            shown(request, "room").and_then(|room| room.parse::<BareJid>().ok()).filter(|room| room.node().is_some())
        else {
            return request.refuse(DefinedCondition::NotAcceptable, "the room attribute is missing or is no room JID");
        };
        if shown(request, "machine-uid").is_none() {
            return request.refuse(DefinedCondition::BadRequest, "missing mandatory attribute 'machine-uid'");
        }
        let name = room.node().map_or("", |node| node.as_str());
        let external = self.settings.as_ref().is_some_and(|settings| settings.kind == LoginType::Jwt);
        let url = if external { String::new() } else { format!(" url='{}'", encoded(&format!("./{name}?login=true"))) };
        request.result(build(&format!("<login-url xmlns='{}'{url}/>", ns::FOCUS)))
    }

    /// A conference ended, and with it sessions that last no longer.
    pub fn conference_ended(&mut self, room: &BareJid) {
        if self.settings.as_ref().is_none_or(|settings| settings.auto_login) {
            return;
        }
        self.end_those(|session| session.room == *room);
    }

    fn end_those(&mut self, over: impl Fn(&Session) -> bool) {
        let ids: Vec<String> = self.sessions.iter().filter(|(_, s)| over(s)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(settings) = self.settings.as_ref().filter(|_| self.look_at.is_some_and(|at| at <= now)) else {
            return;
        };
        let lifetime = settings.lifetime;
        self.end_those(|session| now.saturating_duration_since(session.used) > lifetime);
        self.look_at = if self.sessions.is_empty() { None } else { Some(now + LOOK) };
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    /// Statistics for `/colibri/stats`.
    pub fn stats(&self) -> serde_json::Value {
        serde_json::json!({ "sessions": self.sessions.len(), "total_logins": self.granted })
    }
}

/// An attribute of a request that is not blank.
fn shown<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    request.payload.attr(name).filter(|text| !text.trim().is_empty())
}

/// Text in the form of a field of an HTML form.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded_as_in_forms() {
        assert_eq!(encoded("./r\u{fc}m ?login=true"), ".%2Fr%C3%BCm+%3Flogin%3Dtrue");
    }

    fn show(logins: &mut Logins, now: Instant, n: usize, user: &str) {
        let xml = format!("<conference xmlns='{}' machine-uid='m{n}'/>", ns::FOCUS);
        let request = Request { from: None, to: None, id: "1".into(), payload: xml.parse().unwrap(), set: true };
        let (user, room) = (user.parse().unwrap(), "r@c.x".parse().unwrap());
        assert!(matches!(logins.show(now, &request, Some(&user), &room, format!("id{n}")), Ok(true)));
    }

    #[test]
    fn an_account_has_a_bounded_number_of_sessions() {
        let settings = LoginSettings {
            kind: LoginType::Xmpp,
            domain: "meet.x".parse().unwrap(),
            lifetime: Duration::from_secs(60),
            auto_login: true,
        };
        let mut logins = Logins::new(Some(settings));
        let now = Instant::now();
        show(&mut logins, now, 0, "other@meet.x/a");
        for n in 1..=2 * MAX_OF_ACCOUNT {
            show(&mut logins, now + Duration::from_millis(n as u64), n, &format!("user@meet.x/{n}"));
        }
        assert_eq!(logins.sessions.len(), MAX_OF_ACCOUNT + 1);
        assert_eq!(logins.users.len(), MAX_OF_ACCOUNT + 1, "nobody is remembered who has no session");
        assert!(logins.includes(&"other@meet.x/a".parse().unwrap()), "others keep theirs");
        assert!(!logins.includes(&"user@meet.x/1".parse().unwrap()), "the oldest ended");
        logins.handle_timeout(now + Duration::from_secs(120));
        assert_eq!((logins.sessions.len(), logins.users.len(), logins.poll_timeout()), (0, 0, None));
    }
}
