//! What operators ask of the focus over HTTP, as they ask Jicofo (docs/protocol/focus.md 9): what it knows, pins, moves.

use std::time::{Instant, SystemTime};

use jid::BareJid;
use serde_json::{Map, Value, json};

use super::conference::{Conference, Relief};
use super::service::Focus;
use crate::rest::{FocusAnswer, FocusAsk};

impl Focus {
    /// Does what an operator asks; the time of day is for people alone.
    pub fn operate(&mut self, now: Instant, time_of_day: SystemTime, ask: FocusAsk) -> FocusAnswer {
        let done = match ask {
            FocusAsk::Debug { full } => Ok(self.debug_state(now, full)),
            FocusAsk::Conferences => Ok(self.conferences.keys().map(ToString::to_string).collect()),
            FocusAsk::ConferencesInFull => Ok(self.debug()),
            FocusAsk::Conference(room) => room_of(&room).map(|room| {
                // As in Jicofo: of no conference there is nothing to say.
                self.conferences.get(&room).map_or_else(|| json!({}), Conference::debug)
            }),
            FocusAsk::Rtcstats => Ok(self.rtcstats()),
            FocusAsk::Caps => Ok(self.shared.caps.to_json()),
            FocusAsk::Pins => Ok(self.shared.pins.list(now)),
            FocusAsk::Pin { room, version, minutes } => self.pin((now, time_of_day), &room, version, minutes),
            FocusAsk::Unpin { room } => room_of(&room).map(|room| {
                let removed = self.shared.pins.remove(&room);
                tracing::info!(%room, removed, "pin removed");
                Value::Null
            }),
            FocusAsk::MoveEndpoint { room, endpoint, bridge } => {
                self.move_endpoint(now, &room, &endpoint, bridge.as_deref())
            }
            FocusAsk::MoveEndpoints { bridge, room, count } => {
                self.move_endpoints(now, &bridge, room.as_deref(), count)
            }
            FocusAsk::MoveFraction { bridge, fraction } => self.move_fraction(now, &bridge, fraction),
        };
        done.map_or_else(|answer| answer, FocusAnswer::Done)
    }

    fn debug_state(&self, now: Instant, full: bool) -> Value {
        let one = |(room, conference): (&BareJid, &Conference)| {
            (room.to_string(), if full { conference.debug() } else { conference.len().into() })
        };
        let stats = self.stats(now);
        json!({
            "focus_manager": self.conferences.iter().map(one).collect::<Map<_, _>>(),
            "bridge_selector": { "bridge": stats["bridge_selector"]["bridges"] },
            "jibri_detector": stats["jibri"],
            "jigasi_detector": stats["jigasi"],
        })
    }

    fn rtcstats(&self) -> Value {
        let one = |conference: &Conference| Some((conference.rtcstats_id()?.to_owned(), conference.debug()));
        self.conferences.values().filter_map(one).collect::<Map<_, _>>().into()
    }

    fn pin(
        &mut self,
        now: (Instant, SystemTime),
        room: &str,
        version: String,
        minutes: u64,
    ) -> Result<Value, FocusAnswer> {
        let room = room_of(room)?;
        tracing::info!(%room, version, minutes, "an operator pinned the conference to a version of bridges");
        self.shared.pins.set(now, room, version, minutes).map_err(FocusAnswer::Bad)?;
        Ok(Value::Null)
    }

    fn move_endpoint(
        &mut self,
        now: Instant,
        room: &str,
        endpoint: &str,
        bridge: Option<&str>,
    ) -> Result<Value, FocusAnswer> {
        let bridge = bridge.map(|bridge| self.bridge_called(bridge)).transpose()?;
        let room = self.conference_called(room)?;
        let Some((conference, mut cx)) = self.conference(now, &room) else { return Ok(moved(0, 0)) };
        let there = bridge.is_none_or(|bridge| conference.is_on(endpoint, &bridge));
        let again = usize::from(there && conference.invite_again(&mut cx, endpoint));
        Ok(moved(again, again))
    }

    fn move_endpoints(
        &mut self,
        now: Instant,
        bridge: &str,
        room: Option<&str>,
        count: usize,
    ) -> Result<Value, FocusAnswer> {
        let bridge = self.bridge_called(bridge)?;
        let room = room.map(|room| self.conference_called(room)).transpose()?;
        Ok(self.take_off(now, &bridge, room.as_ref(), count))
    }

    fn move_fraction(&mut self, now: Instant, bridge: &str, fraction: f64) -> Result<Value, FocusAnswer> {
        let bridge = self.bridge_called(bridge)?;
        let all: usize = self.conferences.values().map(|conference| conference.count_on(&bridge)).sum();
        let count = (fraction * all as f64).round() as usize;
        Ok(self.take_off(now, &bridge, None, count))
    }

    fn take_off(&mut self, now: Instant, bridge: &str, only: Option<&BareJid>, count: usize) -> Value {
        let (endpoints, conferences) = self.relieve(now, bridge, only, (count, Relief::Asked));
        tracing::info!(bridge, asked = count, endpoints, conferences, "endpoints moved: an operator asked for it");
        moved(endpoints, conferences)
    }

    /// By its address in the brewery, or by its nickname there.
    fn bridge_called(&self, name: &str) -> Result<String, FocusAnswer> {
        let full = format!("{}/{name}", self.shared.settings.brewery);
        let known = [name, &full].into_iter().find(|name| self.shared.bridges.get(name).is_some());
        known.map(str::to_owned).ok_or_else(|| FocusAnswer::NotFound("Bridge not found".to_owned()))
    }

    fn conference_called(&self, room: &str) -> Result<BareJid, FocusAnswer> {
        let room = room_of(room)?;
        match self.conferences.contains_key(&room) {
            true => Ok(room),
            false => Err(FocusAnswer::NotFound("Conference not found".to_owned())),
        }
    }
}

fn room_of(text: &str) -> Result<BareJid, FocusAnswer> {
    let room = text.parse::<BareJid>().ok().filter(|room| room.node().is_some());
    room.ok_or_else(|| FocusAnswer::Bad("Invalid conference ID: use room@conference.example.net".to_owned()))
}

fn moved(endpoints: usize, conferences: usize) -> Value {
    json!({ "movedEndpoints": endpoints, "conferences": conferences })
}
