//! The bridges of the brewery room: what they report, how well they are, which one is next (docs/protocol/focus.md 7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jid::BareJid;
use tokio_xmpp::minidom::Element;

use super::ice_failures::{IceFailureSettings, IceFailures};
use super::limits::{IMPLAUSIBLE, MAX_NAME};
use super::selection::{Candidate, SelectionSettings, Strategy, Wanted, select};

/// Endpoints added this recently count on top of the reported stress.
const RAMP_UP: Duration = Duration::from_secs(20);

/// A bridge that failed is left alone for this long.
const FAILURE_RESET: Duration = Duration::from_secs(60);

/// A bridge that had no room for an endpoint gets no new conference for this long, and is asked again after it.
pub(super) const FULL_RESET: Duration = Duration::from_secs(20);

/// A conference does not move to a bridge that reports as much stress as this.
const OVERLOADED: f64 = 1.0;

/// Between two health checks of a bridge.
///
/// A bridge process that dies stays in the brewery for as long as the server keeps its stream for resumption
/// (XEP-0198), so that silence is the first sign of its death.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// Stats element of bridges.
const COLIBRI: &str = "http://jitsi.org/protocol/colibri";

/// Dead links that one bridge may report; further ones are not looked at.
const MAX_DEAD_LINKS: usize = 1_000;

/// What our own bridges say of links over which nothing comes.
const DEAD_LINKS: &str = "dead_relays";

/// A relay over which nothing comes although its bridge lives: of which conference, to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct DeadLink {
    /// The meeting id.
    pub meeting: String,
    /// The relay id of the bridge at the other end.
    pub relay: String,
}

/// One bridge.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Bridge {
    stress: f64,
    endpoint_stress: f64,
    graceful_shutdown: bool,
    shutting_down: bool,
    draining: bool,
    #[serde(with = "crate::carried")]
    failed_at: Option<Instant>,
    #[serde(with = "crate::carried")]
    full_at: Option<Instant>,
    healthy: bool,
    #[serde(with = "crate::carried")]
    added: Vec<Instant>,
    /// Version of ringbridge, when it is one: it understands changed media in updates.
    pub ringbridge: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its version with its release.
    pub version: Option<String>,
    /// Under which name other bridges reach it; none without relays.
    pub relay_id: Option<String>,
    /// Its relays over which nothing comes, as it reports.
    dead_links: Vec<DeadLink>,
    #[serde(with = "crate::carried")]
    next_check: Instant,
    /// Health checks in a row that were not answered.
    silences: u32,
    /// Endpoints on it, as it reports.
    endpoints: u64,
    ice_failures: IceFailures,
}

impl Bridge {
    fn new(now: Instant) -> Self {
        Self {
            stress: 0.0,
            endpoint_stress: 0.01,
            graceful_shutdown: false,
            shutting_down: false,
            draining: true,
            failed_at: None,
            full_at: None,
            healthy: true,
            added: Vec::new(),
            ringbridge: None,
            region: None,
            version: None,
            relay_id: None,
            dead_links: Vec::new(),
            next_check: now + HEALTH_INTERVAL,
            silences: 0,
            endpoints: 0,
            ice_failures: IceFailures::default(),
        }
    }

    fn update(&mut self, stats: &Element) {
        let get = |name: &str| {
            let stat = stats.children().find(|child| child.name() == "stat" && child.attr("name") == Some(name));
            stat.and_then(|stat| stat.attr("value"))
        };
        let switch = |name: &str| get(name).map(|value| value.eq_ignore_ascii_case("true"));
        let number =
            |name: &str| get(name).and_then(|value| value.parse::<f64>().ok()).filter(|value| value.is_finite());
        self.stress = number("stress_level").unwrap_or(self.stress);
        self.endpoint_stress = number("average_participant_stress").unwrap_or(self.endpoint_stress);
        self.endpoints =
            number("endpoints").or_else(|| number("participants")).map_or(self.endpoints, |count| count as u64);
        // Once shutting down, always shutting down: a bridge that comes back is a new occupant.
        self.graceful_shutdown |= switch("graceful_shutdown").unwrap_or(false);
        self.shutting_down |= switch("shutting_down").unwrap_or(false);
        self.draining = switch("drain").unwrap_or(self.draining);
        self.ringbridge = get("ringbridge").map(str::to_owned);
        self.region = get("region").map(str::to_owned);
        self.relay_id = get("relay_id").filter(|id| !id.is_empty() && id.len() <= MAX_NAME).map(str::to_owned);
        self.dead_links = get(DEAD_LINKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        self.dead_links.truncate(MAX_DEAD_LINKS);
        self.version = get("version").map(|version| match get("release") {
            Some(release) => format!("{version}-{release}"),
            None => version.to_owned(),
        });
    }

    /// Reported stress plus that of the endpoints added just now.
    fn corrected_stress(&self, now: Instant) -> f64 {
        let recent = self.added.iter().filter(|at| now.saturating_duration_since(**at) < RAMP_UP).count();
        self.stress + recent as f64 * self.endpoint_stress
    }

    /// One silence is a hiccup, two in a row are not.
    fn is_silent(&self) -> bool {
        self.silences >= 2
    }

    /// Whether it lately had no room.
    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_some_and(|at| now.saturating_duration_since(at) < FULL_RESET)
    }

    /// What its choice depends on.
    fn candidate<'a>(&'a self, now: Instant, id: &'a str) -> Candidate<'a> {
        Candidate {
            id,
            region: self.region.as_deref(),
            relay_id: self.relay_id.as_deref(),
            version: self.version.as_deref(),
            stress: self.corrected_stress(now),
            operational: self.is_operational(now),
            shutting_down: self.shutting_down,
            graceful_shutdown: self.graceful_shutdown,
            draining: self.draining,
            full: self.is_full(now),
            unreached: self.ice_failures.is_failing(now),
        }
    }

    /// Whether it may take endpoints.
    pub fn is_operational(&self, now: Instant) -> bool {
        self.healthy
            && !self.is_silent()
            && self.failed_at.is_none_or(|at| now.saturating_duration_since(at) >= FAILURE_RESET)
    }
}

/// What a presence in the brewery meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeChange {
    /// A new bridge.
    Added(String),
    /// Its conferences have to move.
    ShuttingDown(String),
}

/// All bridges, by occupant JID.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Bridges {
    bridges: BTreeMap<String, Bridge>,
    #[serde(skip)]
    ice_failure: Option<IceFailureSettings>,
    #[serde(skip)]
    selection: SelectionSettings,
}

impl Bridges {
    /// None yet; with settings of failing ICE, bridges that clients do not reach are avoided.
    pub fn new(ice_failure: Option<IceFailureSettings>, selection: SelectionSettings) -> Self {
        Self { ice_failure, selection, ..Self::default() }
    }

    /// Goes on with the bridges as another process knows them.
    pub(super) fn go_on_with(&mut self, other: Self) {
        let Self { bridges, ice_failure: _, selection: _ } = self;
        *bridges = other.bridges;
    }

    /// Whether all numbers are some.
    pub(super) fn is_sound(&self) -> bool {
        let sound = |bridge: &Bridge| {
            let finite = bridge.stress.is_finite() && bridge.endpoint_stress.is_finite();
            finite && bridge.dead_links.len() <= MAX_DEAD_LINKS && bridge.ice_failures.total() < IMPLAUSIBLE
        };
        self.bridges.values().all(sound)
    }

    /// An endpoint on a bridge asked for another session.
    pub fn restart_requested(&mut self, now: Instant, occupant: &str, endpoint: (&BareJid, &str)) {
        let Some(bridge) = self.bridges.get_mut(occupant) else { return };
        if bridge.ice_failures.asked(now, endpoint, bridge.endpoints, self.ice_failure.as_ref()) {
            tracing::warn!(
                bridge = occupant,
                endpoints = bridge.endpoints,
                "clients do not reach this bridge; new conferences avoid it"
            );
        }
    }

    /// How many different versions there are.
    pub fn count_versions(&self) -> usize {
        self.bridges.values().map(|bridge| &bridge.version).collect::<BTreeSet<_>>().len()
    }

    /// Each bridge as Jicofo's `/debug` shows it.
    pub fn debug(&self, now: Instant) -> serde_json::Value {
        let one = |(occupant, bridge): (&String, &Bridge)| {
            let view = serde_json::json!({
                "corrected-stress": bridge.corrected_stress(now),
                "drain": bridge.draining,
                "endpoints": bridge.endpoints,
                "endpoint-restart-requests": bridge.ice_failures.total(),
                "failing-ice": bridge.ice_failures.is_failing(now),
                "graceful-shutdown": bridge.graceful_shutdown,
                "healthy": bridge.healthy && !bridge.is_silent(),
                "operational": bridge.is_operational(now),
                "region": bridge.region,
                "relay-id": bridge.relay_id,
                "shutting-down": bridge.shutting_down,
                "stress": bridge.stress,
                "version": bridge.version,
            });
            (occupant.clone(), view)
        };
        self.bridges.iter().map(one).collect()
    }

    /// Takes an available presence of an occupant; occupants without statistics are no bridges.
    pub fn presence(&mut self, now: Instant, occupant: &str, payloads: &[Element]) -> Option<BridgeChange> {
        let stats = payloads.iter().find(|payload| payload.is("stats", COLIBRI))?;
        let added = !self.bridges.contains_key(occupant);
        let bridge = self.bridges.entry(occupant.to_owned()).or_insert_with(|| Bridge::new(now));
        let before = bridge.shutting_down;
        bridge.update(stats);
        if added {
            return Some(BridgeChange::Added(occupant.to_owned()));
        }
        (bridge.shutting_down && !before).then(|| BridgeChange::ShuttingDown(occupant.to_owned()))
    }

    /// An occupant left; true when it was a bridge.
    pub fn left(&mut self, occupant: &str) -> bool {
        self.bridges.remove(occupant).is_some()
    }

    /// Forgets all: the connection is gone.
    pub fn clear(&mut self) {
        self.bridges.clear();
    }

    /// One bridge.
    pub fn get(&self, occupant: &str) -> Option<&Bridge> {
        self.bridges.get(occupant)
    }

    /// How many there are, and how many may take endpoints.
    pub fn count(&self, now: Instant) -> (usize, usize) {
        (self.bridges.len(), self.bridges.values().filter(|bridge| bridge.is_operational(now)).count())
    }

    /// The bridge for a participant (docs/protocol/focus.md 7.3, 7.4).
    pub fn choose(&self, now: Instant, wanted: &Wanted<'_>) -> Option<String> {
        let all: Vec<Candidate<'_>> = self.bridges.iter().map(|(id, bridge)| bridge.candidate(now, id)).collect();
        select(&self.selection, &all, wanted).map(str::to_owned)
    }

    /// The relays of a bridge over which nothing comes, as it last said.
    pub fn dead_links(&self, occupant: &str) -> Vec<DeadLink> {
        self.bridges.get(occupant).map(|bridge| bridge.dead_links.clone()).unwrap_or_default()
    }

    /// The bridges that are more stressed than that, the most stressed first.
    pub fn stressed(&self, now: Instant, limit: f64) -> Vec<String> {
        let mut all: Vec<(f64, &String)> =
            self.bridges.iter().map(|(id, bridge)| (bridge.corrected_stress(now), id)).collect();
        all.retain(|(stress, _)| *stress >= limit);
        all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        all.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// Whether a conference on that bridge can be on others too.
    pub fn may_be_linked(&self, occupant: &str) -> bool {
        let linked = self.selection.relays && self.selection.strategy != Strategy::Single;
        linked && self.bridges.get(occupant).is_some_and(|bridge| bridge.relay_id.is_some())
    }

    /// How long an endpoint counts as one that was added to a bridge lately, if that matters.
    pub fn recent_interval(&self) -> Option<Duration> {
        self.selection.max_recent.map(|(_, interval)| interval)
    }

    /// The best bridge for a new conference.
    pub fn select(&self, now: Instant, region: Option<&str>) -> Option<String> {
        self.choose(now, &Wanted { region, ..Wanted::default() })
    }

    /// Whether a bridge may take endpoints.
    pub fn is_operational(&self, now: Instant, occupant: &str) -> bool {
        self.bridges.get(occupant).is_some_and(|bridge| bridge.is_operational(now))
    }

    /// Whether there is a bridge that is operational and means to stay.
    pub fn has_usable(&self, now: Instant) -> bool {
        self.bridges.values().any(|b| b.is_operational(now) && !b.graceful_shutdown && !b.shutting_down)
    }

    /// How many are on their way out.
    pub fn count_in_shutdown(&self) -> usize {
        self.bridges.values().filter(|bridge| bridge.graceful_shutdown || bridge.shutting_down).count()
    }

    /// Records that an endpoint was added.
    pub fn endpoint_added(&mut self, now: Instant, occupant: &str) {
        if let Some(bridge) = self.bridges.get_mut(occupant) {
            bridge.added.retain(|at| now.saturating_duration_since(*at) < RAMP_UP);
            bridge.added.push(now);
        }
    }

    /// Records that a request failed in a way that says that the bridge is broken.
    pub fn failed(&mut self, now: Instant, occupant: &str) {
        if let Some(bridge) = self.bridges.get_mut(occupant) {
            bridge.failed_at = Some(now);
        }
    }

    /// Records that it had no room for an endpoint; true when another one has, as far as is known.
    pub fn full(&mut self, now: Instant, occupant: &str, version: Option<&str>) -> bool {
        if let Some(bridge) = self.bridges.get_mut(occupant) {
            bridge.full_at = Some(now);
        }
        let wanted = Wanted { version, ..Wanted::default() };
        let next = self.choose(now, &wanted).and_then(|next| self.bridges.get(&next));
        next.is_some_and(|next| next.corrected_stress(now) < OVERLOADED)
    }

    /// Records that it is on its way out.
    pub fn graceful_shutdown(&mut self, occupant: &str) {
        if let Some(bridge) = self.bridges.get_mut(occupant) {
            bridge.graceful_shutdown = true;
        }
    }

    /// The bridges whose health is to be asked for now.
    pub fn due_checks(&mut self, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        for (occupant, bridge) in &mut self.bridges {
            if bridge.next_check <= now {
                bridge.next_check = now + HEALTH_INTERVAL;
                due.push(occupant.clone());
            }
        }
        due
    }

    /// When the next health check is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.bridges.values().map(|bridge| bridge.next_check).min()
    }

    /// A health check was answered well.
    pub fn check_passed(&mut self, occupant: &str) {
        if let Some(bridge) = self.bridges.get_mut(occupant) {
            (bridge.healthy, bridge.silences) = (true, 0);
        }
    }

    /// A health check was answered with an error: the bridge is ill, and its conferences have to move.
    pub fn check_failed(&mut self, now: Instant, occupant: &str) {
        if let Some(bridge) = self.bridges.get_mut(occupant) {
            (bridge.healthy, bridge.failed_at) = (false, Some(now));
        }
    }

    /// A health check was not answered; true when that makes two in a row: the bridge is out of the choice until it
    /// answers again.
    pub fn check_timed_out(&mut self, now: Instant, occupant: &str) -> bool {
        let Some(bridge) = self.bridges.get_mut(occupant) else { return false };
        bridge.silences = bridge.silences.saturating_add(1);
        if bridge.silences == 1 {
            bridge.next_check = now;
        }
        bridge.silences == 2
    }

    /// Those that do not answer.
    pub fn silent(&self) -> Vec<String> {
        self.bridges.iter().filter(|(_, bridge)| bridge.is_silent()).map(|(occupant, _)| occupant.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(pairs: &[(&str, &str)]) -> Vec<Element> {
        let stats: String =
            pairs.iter().map(|(name, value)| format!("<stat name='{name}' value='{value}'/>")).collect();
        vec![format!("<stats xmlns='{COLIBRI}'>{stats}</stats>").parse().expect("well-formed")]
    }

    #[test]
    fn the_least_stressed_bridge_counts_what_was_just_added() {
        let now = Instant::now();
        let mut bridges = Bridges::default();
        assert_eq!(bridges.presence(now, "b/focus", &[]), None, "no bridge");
        assert_eq!(
            bridges.presence(now, "b/1", &stats(&[("stress_level", "0.10"), ("drain", "false")])),
            Some(BridgeChange::Added("b/1".into()))
        );
        bridges.presence(now, "b/2", &stats(&[("stress_level", "0.11"), ("drain", "false")]));
        bridges.presence(now, "b/3", &stats(&[("stress_level", "0.0")]));
        assert_eq!(bridges.select(now, None).as_deref(), Some("b/1"), "the third never said that it does not drain");
        let far = [("stress_level", "0.4"), ("drain", "false"), ("region", "far")];
        bridges.presence(now, "b/4", &stats(&far));
        assert_eq!(bridges.select(now, Some("far")).as_deref(), Some("b/4"), "the participant's region comes first");
        assert_eq!(bridges.select(now, Some("unheard-of")).as_deref(), Some("b/1"));
        bridges.endpoint_added(now, "b/1");
        bridges.endpoint_added(now, "b/1");
        assert_eq!(bridges.select(now, None).as_deref(), Some("b/2"));
        assert_eq!(bridges.select(now + RAMP_UP, None).as_deref(), Some("b/1"));
    }

    /// The statistics that count: those of the bridge, not what the focus added.
    #[test]
    fn a_bridge_that_clients_do_not_reach_is_avoided_while_there_is_another() {
        let now = Instant::now();
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let settings =
            IceFailureSettings { interval: minutes(2), min_endpoints: 30, percent: 10, timeout: minutes(10) };
        let mut bridges = Bridges::new(Some(settings), SelectionSettings::default());
        let busy = [("drain", "false"), ("stress_level", "0.1"), ("endpoints", "40")];
        bridges.presence(now, "b/1", &stats(&busy));
        let room = "room@conference.meet.test".parse().expect("a room");
        for nick in ["a", "b", "c", "d"] {
            bridges.restart_requested(now, "b/1", (&room, nick));
        }
        assert_eq!(bridges.debug(now)["b/1"]["failing-ice"], true);
        assert_eq!(bridges.select(now, None).as_deref(), Some("b/1"), "better than none");
        bridges.presence(now, "b/2", &stats(&[("drain", "false"), ("stress_level", "0.9")]));
        assert_eq!(bridges.select(now, None).as_deref(), Some("b/2"));
        assert_eq!(bridges.select(now + minutes(10), None).as_deref(), Some("b/1"), "it has its time");
        bridges.restart_requested(now, "b/none", (&room, "a"));
        assert_eq!(bridges.debug(now)["b/1"]["endpoint-restart-requests"], 4);
        // As it is by default.
        let mut bridges = Bridges::default();
        bridges.presence(now, "b/1", &stats(&busy));
        bridges.presence(now, "b/2", &stats(&[("drain", "false"), ("stress_level", "0.9")]));
        for nick in 0..40 {
            bridges.restart_requested(now, "b/1", (&room, &nick.to_string()));
        }
        assert_eq!(bridges.select(now, None).as_deref(), Some("b/1"));
    }

    #[test]
    fn failures_take_a_bridge_out_for_a_minute() {
        let now = Instant::now();
        let mut bridges = Bridges::default();
        bridges.presence(now, "b/1", &stats(&[("drain", "false")]));
        assert!(!bridges.check_timed_out(now, "b/1"));
        assert_eq!(bridges.count(now), (1, 1), "one silence is a hiccup");
        assert!(bridges.check_timed_out(now, "b/1"));
        assert_eq!((bridges.select(now, None), bridges.silent()), (None, vec!["b/1".to_owned()]));
        bridges.check_passed("b/1");
        assert_eq!(bridges.select(now, None).as_deref(), Some("b/1"), "silence is forgiven at once, errors are not");
        bridges.check_failed(now, "b/1");
        bridges.check_passed("b/1");
        assert_eq!(bridges.select(now + Duration::from_secs(59), None), None);
        assert_eq!(bridges.select(now + FAILURE_RESET, None).as_deref(), Some("b/1"));
        assert_eq!(
            bridges.presence(now, "b/1", &stats(&[("shutting_down", "true")])),
            Some(BridgeChange::ShuttingDown("b/1".into()))
        );
        assert_eq!(bridges.select(now + FAILURE_RESET, None), None);
    }
}
