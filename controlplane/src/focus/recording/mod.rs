//! Recording, live streams and SIP calls by Jibri (docs/protocol/focus.md 8.7).
//!
//! A client asks us; we choose a Jibri of a brewery and ask that; it joins the room as a participant and reports to us how it fares; we report that to
//! the room in our presence. One that fails is replaced by another as long as there are tries left.

mod element;
mod former;
mod instances;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::DefinedCondition;

use self::element::{Ask, Order, Report, Status, Task};
use self::instances::{InstanceChange, Instances, NoJibri};
use self::session::{Session, Stage};
use super::context::Context;
use super::limits::{IMPLAUSIBLE, Refused};
use super::pool::{Announcement, Pool};
use super::requests::{Answer, Pending};
use super::settings::RecordingSettings;
use super::state_error::FocusStateError;
use super::xml::{build, escaped};
use crate::brewery::Trust;
use crate::xmpp::iq::Request;

pub(super) use element::JIBRI;

/// How Jibris announce themselves.
const JIBRIS: Announcement = Announcement::of_helpers("jibri-status");
/// SIP calls of one conference at a time.
const MAX_CALLS: usize = 20;
/// Ended sessions of a conference that are distinguished from unknown ones.
const PAST_SESSIONS: usize = 8;
/// A Jibri that is idle reports within this how its task ended.
const IDLE_GRACE: Duration = Duration::from_secs(5);
const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";

/// Part of our presence in a room: what it is about, and what it says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Notice {
    pub room: BareJid,
    /// Of the same topic only the latest is shown.
    pub topic: String,
    #[serde(with = "crate::xmpp::element_text")]
    pub element: Element,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Totals {
    started: u64,
    failed: u64,
    retried: u64,
    no_instance: u64,
    busy: u64,
    found: u64,
    failures: Failures,
}

/// Failures by the kind of task, counted as Jicofo does: of each Jibri that did not begin or did not go on, and of each request
/// for which there was none.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Failures {
    recording: u64,
    stream: u64,
    call: u64,
}

impl Failures {
    fn count(&mut self, task: &Task) {
        match task {
            Task::File => self.recording += 1,
            Task::Stream { .. } => self.stream += 1,
            Task::Sip { .. } => self.call += 1,
        }
    }
}

/// The tasks of one conference.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Tasks {
    /// The recording or the stream; there is one at most.
    recording: Option<Session>,
    /// SIP calls by address.
    calls: BTreeMap<String, Session>,
    /// Sessions that ended, the latest last.
    past: VecDeque<String>,
}

impl Tasks {
    fn all(&self) -> impl Iterator<Item = &Session> {
        self.recording.iter().chain(self.calls.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.recording.iter_mut().chain(self.calls.values_mut())
    }

    fn of(&self, task: &Task) -> Option<&Session> {
        match task {
            Task::Sip { address } => self.calls.get(address),
            _ => self.recording.as_ref(),
        }
    }

    fn take(&mut self, id: &str) -> Option<Session> {
        let taken = match self.recording.take_if(|session| session.id == id) {
            Some(session) => session,
            None => {
                let address = self.calls.iter().find(|(_, session)| session.id == id)?.0.clone();
                self.calls.remove(&address)?
            }
        };
        if self.past.len() >= PAST_SESSIONS {
            self.past.pop_front();
        }
        self.past.push_back(taken.id.clone());
        Some(taken)
    }

    fn put(&mut self, session: Session) {
        match &session.order.task {
            Task::Sip { address } => drop(self.calls.insert(address.clone(), session)),
            _ => self.recording = Some(session),
        }
    }
}

/// All tasks of all conferences.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Recording {
    #[serde(skip)]
    settings: RecordingSettings,
    recorders: Option<Instances>,
    sip: Option<Instances>,
    rooms: BTreeMap<BareJid, Tasks>,
    attempts: u64,
    notices: VecDeque<Notice>,
    totals: Totals,
}

impl Recording {
    /// Nothing is recorded yet.
    pub fn new(settings: &RecordingSettings, trust: &Trust) -> Result<Self, jid::Error> {
        let instances = |room: &Option<BareJid>| {
            let room = room.as_ref();
            room.map(|room| Ok(Instances::new(Pool::new(room, trust.clone(), &JIBRIS)?))).transpose()
        };
        Ok(Self {
            recorders: instances(&settings.brewery)?,
            sip: instances(&settings.sip_brewery)?,
            settings: settings.clone(),
            rooms: BTreeMap::new(),
            attempts: 0,
            notices: VecDeque::new(),
            totals: Totals::default(),
        })
    }

    /// Goes on with the tasks of another process.
    pub fn go_on_with(&mut self, other: Self) -> Result<(), FocusStateError> {
        let Self { settings: _, recorders, sip, rooms, attempts, notices, totals } = self;
        Instances::all_go_on_with(recorders.as_mut(), other.recorders)?;
        Instances::all_go_on_with(sip.as_mut(), other.sip)?;
        (*rooms, *attempts, *notices, *totals) = (other.rooms, other.attempts, other.notices, other.totals);
        Ok(())
    }

    /// Whether a focus can have counted so far, and calls stand under their addresses.
    pub fn is_sound(&self) -> bool {
        let Totals { started, failed, retried, no_instance, busy, found, failures } = self.totals;
        let Failures { recording, stream, call } = failures;
        let all = [self.attempts, started, failed, retried, no_instance, busy, found, recording, stream, call];
        let called = |(address, session): (&String, &Session)| matches!(&session.order.task, Task::Sip { address: its } if its == address);
        let tasks = |tasks: &Tasks| tasks.calls.iter().all(called);
        all.iter().all(|count| *count < IMPLAUSIBLE) && self.rooms.values().all(tasks)
    }

    fn breweries(&mut self) -> impl Iterator<Item = &mut Instances> {
        [&mut self.recorders, &mut self.sip].into_iter().flatten()
    }

    fn instances(&mut self, task: &Task) -> Option<&mut Instances> {
        match task {
            Task::Sip { .. } => self.sip.as_mut(),
            _ => self.recorders.as_mut(),
        }
    }

    /// The connection is up; nothing that was before is true any more unless the session `resumed`.
    pub fn online(&mut self, cx: &mut Context<'_>, resumed: bool) {
        let until = cx.now + self.settings.pending_timeout;
        if resumed {
            // The time that we were away does not count.
            for session in self.rooms.values_mut().flat_map(Tasks::all_mut) {
                if let Stage::Starting { until: due, .. } = &mut session.stage {
                    *due = until;
                }
            }
            return;
        }
        self.rooms.clear();
        self.notices.clear();
        for instances in self.breweries() {
            instances.forget();
            instances.pool.join(cx);
        }
    }

    /// The next notice for a room.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Takes a presence; true when it is from a brewery of Jibris.
    pub fn presence(&mut self, cx: &mut Context<'_>, presence: &Presence) -> bool {
        let Some(room) = presence.from.as_ref().map(|from| from.to_bare()) else { return false };
        let of_room = |instances: &&mut Instances| instances.pool.room() == room;
        let changes: Vec<Option<InstanceChange>> =
            self.breweries().filter(of_room).map(|instances| instances.presence(cx, presence)).collect();
        for change in changes.iter().flatten() {
            match change {
                InstanceChange::Gone(jibris) => {
                    for jibri in jibris {
                        self.reported_by(cx, jibri, Report::LOST);
                    }
                }
                InstanceChange::Idle(jibri, idle) => self.note_idle(cx.now, jibri, *idle),
            }
        }
        !changes.is_empty()
    }

    /// A Jibri that is at work says that it has nothing to do, or that it has.
    fn note_idle(&mut self, now: Instant, jibri: &str, idles: bool) {
        for session in self.rooms.values_mut().flat_map(Tasks::all_mut) {
            match &mut session.stage {
                Stage::Running { jibri: its, idle } if its == jibri => *idle = idles.then(|| idle.unwrap_or(now)),
                _ => {}
            }
        }
    }

    /// Whether the sender is a Jibri that works for somebody: then what it sends is a report.
    pub fn is_at_work(&self, jibri: &str) -> bool {
        self.rooms.values().flat_map(Tasks::all).any(|session| session.jibri() == Some(jibri))
    }

    /// A request of a Jibri that is at work.
    pub fn report(&mut self, cx: &mut Context<'_>, request: &Request, jibri: &str) -> Iq {
        match Report::read(&request.payload) {
            Some(report) => {
                self.reported_by(cx, jibri, report);
                request.result(None)
            }
            None => {
                cx.refused.count(Refused::Recording, 1);
                request.refuse(DefinedCondition::BadRequest, "the status has to be on, off or pending")
            }
        }
    }

    fn reported_by(&mut self, cx: &mut Context<'_>, jibri: &str, report: Report) {
        let of_jibri = |(room, tasks): (&BareJid, &Tasks)| {
            let session = tasks.all().find(|session| session.jibri() == Some(jibri))?;
            Some((room.clone(), session.id.clone()))
        };
        if let Some((room, id)) = self.rooms.iter().find_map(of_jibri) {
            self.reported(cx, &room, &id, report);
        }
    }

    /// A moderator's request about a conference; `None` when the answer comes later.
    pub fn request(&mut self, cx: &mut Context<'_>, room: &BareJid, request: &Request) -> Option<Iq> {
        let outcome = match Ask::read(&request.payload) {
            Err(text) => Err((DefinedCondition::BadRequest, text)),
            Ok(Ask::Start(order)) => self.start(cx, room, order, request).map(|()| None),
            Ok(Ask::Stop(address)) => self.stop(cx, room, address.as_deref(), request).map(Some),
        };
        outcome.unwrap_or_else(|(condition, text)| {
            cx.refused.count(Refused::Recording, 1);
            Some(request.refuse(condition, text))
        })
    }

    fn start(
        &mut self,
        cx: &mut Context<'_>,
        room: &BareJid,
        order: Order,
        request: &Request,
    ) -> Result<(), (DefinedCondition, &'static str)> {
        let tasks = self.rooms.get(room);
        if tasks.is_some_and(|tasks| tasks.of(&order.task).is_some()) {
            return Err((DefinedCondition::UnexpectedRequest, "Recording or live streaming is already enabled"));
        }
        if tasks.is_some_and(|tasks| tasks.calls.len() >= MAX_CALLS) && order.task.mode().is_none() {
            return Err((DefinedCondition::ResourceConstraint, "too many SIP calls in this conference"));
        }
        let jibri = self.select(cx.now, &order.task)?;
        let session = Session {
            id: cx.random_id(),
            order,
            initiator: request.from.as_ref().map(ToString::to_string),
            waiting: Some(request.clone()),
            stage: Stage::Found { nick: String::new() },
            retries: 0,
            attempt: 0,
        };
        self.ask(cx, room, session, jibri);
        Ok(())
    }

    fn select(&mut self, now: Instant, task: &Task) -> Result<String, (DefinedCondition, &'static str)> {
        let Some(instances) = self.instances(task) else {
            return Err((DefinedCondition::ServiceUnavailable, "no brewery of Jibris is configured"));
        };
        let chosen = instances.select(now);
        if chosen.is_err() {
            self.totals.failures.count(task);
        }
        match chosen {
            Err(NoJibri::Busy) => {
                self.totals.busy += 1;
                Err((DefinedCondition::ResourceConstraint, "all Jibris are busy"))
            }
            Err(NoJibri::Absent) => {
                self.totals.no_instance += 1;
                Err((DefinedCondition::ServiceUnavailable, "no Jibris available"))
            }
            Ok(jibri) => Ok(jibri),
        }
    }

    /// Asks a Jibri to begin.
    fn ask(&mut self, cx: &mut Context<'_>, room: &BareJid, mut session: Session, jibri: String) {
        tracing::info!(%room, %jibri, session = session.id, task = ?session.order.task, "Jibri asked to start");
        self.attempts += 1;
        session.attempt = self.attempts;
        if let Some(start) = element::start(&room.to_string(), &session.id, &session.order) {
            let pending = Pending::Jibri { room: room.clone(), session: session.id.clone(), attempt: session.attempt };
            cx.request(&jibri, true, start, pending);
        }
        session.stage = Stage::Starting { jibri, until: cx.now + self.settings.pending_timeout };
        self.rooms.entry(room.clone()).or_default().put(session);
    }

    /// A Jibri answered a request to begin, or did not.
    pub fn answered(&mut self, cx: &mut Context<'_>, room: &BareJid, id: &str, attempt: u64, answer: Answer) {
        let session = self.rooms.get_mut(room).and_then(|tasks| tasks.all_mut().find(|session| session.id == id));
        let Some(session) = session.filter(|session| session.attempt == attempt) else { return };
        let report = match &answer {
            Answer::Result(Some(payload)) => Report::read(payload),
            _ => None,
        };
        match report {
            Some(Report { status: Status::Pending | Status::On, .. }) => {
                if let Some(request) = session.waiting.take() {
                    self.totals.started += 1;
                    cx.send(request.result(element::begun(id)));
                }
            }
            // It may be slow and begin later, with nobody who would end it.
            _ if matches!(answer, Answer::Timeout) => self.end_at_jibri(cx, room, id),
            _ => {}
        }
        // What is no report, is none that a Jibri at work would give.
        let refused = Report { retry: true, ..Report::LOST };
        self.reported(cx, room, id, report.unwrap_or(refused));
    }

    /// How a task fares, by its Jibri or by what became of that.
    fn reported(&mut self, cx: &mut Context<'_>, room: &BareJid, id: &str, report: Report) {
        let session = self.rooms.get_mut(room).and_then(|tasks| tasks.all_mut().find(|session| session.id == id));
        let Some(session) = session else { return };
        match (report.status, report.failure) {
            (Status::Pending, _) => {}
            (Status::On, _) => {
                let Some(jibri) = session.jibri().map(str::to_owned) else { return };
                if matches!(session.stage, Stage::Running { .. }) {
                    return;
                }
                tracing::info!(%room, %jibri, session = id, "recording or call started");
                session.stage = Stage::Running { jibri, idle: None };
                if let Some(request) = session.waiting.take() {
                    self.totals.started += 1;
                    cx.send(request.result(element::begun(id)));
                }
                let who = session.initiator.clone();
                self.announce(room, id, report, who.as_deref());
            }
            (Status::Off, None) if !matches!(session.stage, Stage::Starting { .. }) => {
                tracing::info!(%room, session = id, "recording or call ended");
                self.announce(room, id, report, None);
                self.forget(room, id);
            }
            // One that ends before it began did not do what it was asked.
            (Status::Off, failure) => {
                self.failed(cx, room, id, Report { failure: failure.or(Report::LOST.failure), ..report })
            }
        }
    }

    /// The Jibri of a task failed: another one is asked, or the task with it.
    fn failed(&mut self, cx: &mut Context<'_>, room: &BareJid, id: &str, report: Report) {
        let Some(session) = self.rooms.get_mut(room).and_then(|tasks| tasks.take(id)) else { return };
        let jibri = session.jibri().map(str::to_owned).unwrap_or_default();
        let (retries, task) = (session.retries, session.order.task.clone());
        if let Some(instances) = self.instances(&task) {
            instances.failed(cx.now, &jibri);
        }
        self.totals.failures.count(&task);
        tracing::warn!(%room, %jibri, session = id, reason = ?report.failure, retries, "Jibri failed");
        let refusal = match report.retry && retries < self.settings.retries {
            true => match self.select(cx.now, &task) {
                Ok(jibri) => {
                    self.totals.retried += 1;
                    if let Some(tasks) = self.rooms.get_mut(room) {
                        tasks.past.retain(|past| past != id);
                    }
                    return self.ask(cx, room, Session { retries: retries + 1, ..session }, jibri);
                }
                Err(refusal) => refusal,
            },
            false => (DefinedCondition::InternalServerError, "the Jibris that were tried failed"),
        };
        self.totals.failed += 1;
        if let Some(request) = &session.waiting {
            cx.refused.count(Refused::Recording, 1);
            cx.send(request.refuse(refusal.0, refusal.1));
            return;
        }
        tracing::warn!(%room, session = id, why = refusal.1, "recording or call lost");
        self.announce_session(room, &session, report, None);
    }

    fn stop(
        &mut self,
        cx: &mut Context<'_>,
        room: &BareJid,
        address: Option<&str>,
        request: &Request,
    ) -> Result<Iq, (DefinedCondition, &'static str)> {
        let tasks = self.rooms.get(room);
        let session = tasks.and_then(|tasks| match address {
            Some(address) => tasks.calls.get(address),
            None => tasks.recording.as_ref(),
        });
        let id = session.map(|session| session.id.clone());
        let id = id.ok_or((DefinedCondition::ItemNotFound, "Unknown session"))?;
        self.end(cx, room, &id, request.from.as_ref().map(ToString::to_string).as_deref());
        Ok(request.result(None))
    }

    /// Ends a task that is under way.
    fn end(&mut self, cx: &mut Context<'_>, room: &BareJid, id: &str, who: Option<&str>) {
        self.end_at_jibri(cx, room, id);
        let Some(session) = self.rooms.get_mut(room).and_then(|tasks| tasks.take(id)) else { return };
        tracing::info!(%room, session = id, "recording or call stopped");
        if let Some(waiting) = &session.waiting {
            cx.send(waiting.refuse(DefinedCondition::UnexpectedRequest, "stopped before a Jibri had started"));
        }
        self.announce_session(room, &session, Report { status: Status::Off, failure: None, retry: false }, who);
    }

    /// Asks whoever works on a task to end it. What it answers does not matter.
    fn end_at_jibri(&self, cx: &mut Context<'_>, room: &BareJid, id: &str) {
        let session = self.rooms.get(room).and_then(|tasks| tasks.all().find(|session| session.id == id));
        match session.map(|session| &session.stage) {
            Some(Stage::Starting { jibri, .. } | Stage::Running { jibri, .. }) => {
                if let Some(stop) = element::stop(id) {
                    cx.notify(jibri, stop);
                }
            }
            // A Jibri that is kicked ends its recording; a request to stop would need its address in the brewery.
            Some(Stage::Found { nick }) => {
                let kick = format!("<query xmlns='{MUC_ADMIN}'><item nick='{}' role='none'/></query>", escaped(nick));
                if let Some(kick) = build(&kick) {
                    cx.notify(&room.to_string(), kick);
                }
            }
            None => {}
        }
    }

    /// A recorder of the operator's is in a room: one that nobody began was there before us.
    pub fn recorder_seen(&mut self, room: &BareJid, nick: &str, presence: &Presence) {
        let Some((id, task)) = element::of_participant(presence.payloads.iter()) else { return };
        let tasks = self.rooms.entry(room.clone()).or_default();
        if tasks.recording.is_some() || tasks.past.contains(&id) {
            return;
        }
        tracing::info!(%room, session = id, "found a recording that was already running");
        self.totals.found += 1;
        tasks.put(Session {
            id: id.clone(),
            order: Order { task, display_name: None, app_data: None },
            initiator: None,
            waiting: None,
            stage: Stage::Found { nick: nick.to_owned() },
            retries: 0,
            attempt: 0,
        });
        self.announce(room, &id, Report { status: Status::On, failure: None, retry: false }, None);
    }

    /// Somebody left a room: perhaps a recorder whose Jibri we do not know.
    pub fn member_left(&mut self, room: &BareJid, nick: &str) {
        let found = |session: &&Session| matches!(&session.stage, Stage::Found { nick: its } if its == nick);
        let id = self.rooms.get(room).and_then(|tasks| tasks.all().find(found)).map(|session| session.id.clone());
        if let Some(id) = id {
            tracing::info!(%room, session = id, "the recorder left the room");
            self.announce(room, &id, Report { status: Status::Off, failure: None, retry: false }, None);
            self.forget(room, &id);
        }
    }

    /// A conference ended, and with it what is made of it.
    pub fn conference_ended(&mut self, cx: &mut Context<'_>, room: &BareJid) {
        let ids = |tasks: &Tasks| tasks.all().map(|session| session.id.clone()).collect::<Vec<_>>();
        for id in self.rooms.get(room).map(ids).unwrap_or_default() {
            self.end(cx, room, &id, None);
        }
        self.rooms.remove(room);
        self.notices.retain(|notice| notice.room != *room);
    }

    fn announce(&mut self, room: &BareJid, id: &str, report: Report, who: Option<&str>) {
        let tasks = self.rooms.get_mut(room);
        let Some(session) = tasks.and_then(|tasks| tasks.all().find(|session| session.id == id)) else { return };
        let notice = notice(room, session, report, who);
        self.notices.extend(notice);
    }

    fn announce_session(&mut self, room: &BareJid, session: &Session, report: Report, who: Option<&str>) {
        if session.is_announced() {
            self.notices.extend(notice(room, session, report, who));
        }
    }

    fn forget(&mut self, room: &BareJid, id: &str) {
        if let Some(tasks) = self.rooms.get_mut(room) {
            tasks.take(id);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for instances in self.breweries() {
            instances.pool.handle_timeout(cx);
        }
        let now = cx.now;
        let due = |session: &Session| deadline(session).is_some_and(|due| due <= now);
        let late: Vec<(BareJid, String)> = (self.rooms.iter())
            .flat_map(|(room, tasks)| tasks.all().map(move |session| (room, session)))
            .filter(|(_, session)| due(session))
            .map(|(room, session)| (room.clone(), session.id.clone()))
            .collect();
        for (room, id) in late {
            tracing::warn!(%room, session = id, "the Jibri no longer reports its status");
            self.end_at_jibri(cx, &room, &id);
            self.failed(cx, &room, &id, Report::LOST);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.rooms.values().flat_map(Tasks::all).filter_map(deadline);
        let pools = [&self.recorders, &self.sip].into_iter().flatten().filter_map(|i| i.pool.poll_timeout());
        sessions.chain(pools).min()
    }

    /// Leaves the breweries.
    pub fn shut_down(&mut self, cx: &mut Context<'_>) {
        for instances in self.breweries() {
            instances.pool.leave(cx);
        }
    }

    /// Statistics for `/colibri/stats`.
    pub fn stats(&self) -> serde_json::Value {
        let count = |wanted: fn(&Task) -> bool, running: bool| {
            let session = |session: &&Session| {
                wanted(&session.order.task) && matches!(session.stage, Stage::Starting { .. }) != running
            };
            self.rooms.values().flat_map(Tasks::all).filter(session).count()
        };
        let file = |task: &Task| matches!(task, Task::File);
        let stream = |task: &Task| matches!(task, Task::Stream { .. });
        let call = |task: &Task| matches!(task, Task::Sip { .. });
        let jibris = |instances: &Option<Instances>| instances.as_ref().map_or((0, 0), Instances::count);
        serde_json::json!({
            "recording_active": count(file, true),
            "recording_pending": count(file, false),
            "live_streaming_active": count(stream, true),
            "live_streaming_pending": count(stream, false),
            "sip_call_active": count(call, true),
            "sip_call_pending": count(call, false),
            "count": jibris(&self.recorders).0,
            "available": jibris(&self.recorders).1,
            "sip_count": jibris(&self.sip).0,
            "sip_available": jibris(&self.sip).1,
            "total_started": self.totals.started,
            "total_failed": self.totals.failed,
            "total_retried": self.totals.retried,
            "total_no_instance": self.totals.no_instance,
            "total_busy": self.totals.busy,
            "total_recording_failures": self.totals.failures.recording,
            "total_live_streaming_failures": self.totals.failures.stream,
            "total_sip_call_failures": self.totals.failures.call,
            "total_found": self.totals.found,
        })
    }
}

/// When a task has taken too long.
fn deadline(session: &Session) -> Option<Instant> {
    match &session.stage {
        Stage::Starting { until, .. } => Some(*until),
        Stage::Running { idle, .. } => idle.map(|idle| idle + IDLE_GRACE),
        Stage::Found { .. } => None,
    }
}

fn notice(room: &BareJid, session: &Session, report: Report, who: Option<&str>) -> Option<Notice> {
    let topic = match &session.order.task {
        Task::Sip { address } => format!("sip {address}"),
        _ => "recording".to_owned(),
    };
    Some(Notice { room: room.clone(), topic, element: element::state(&session.id, &session.order.task, report, who)? })
}
