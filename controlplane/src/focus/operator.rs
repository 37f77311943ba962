//! What operators ask of the focus over HTTP, as they ask Jicofo (docs/protocol/focus.md 9): what it knows, pins, moves.

use std::time::{Instant, SystemTime};

use jid::BareJid;
use serde_json::{Map, Value, json};

use super::conference::Conference;
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
        Ok(self.relieve(now, &bridge, room.as_ref(), count))
    }

    fn move_fraction(&mut self, now: Instant, bridge: &str, fraction: f64) -> Result<Value, FocusAnswer> {
        let bridge = self.bridge_called(bridge)?;
        let all: usize = self.conferences.values().map(|conference| conference.count_on(&bridge)).sum();
        let count = (fraction * all as f64).round() as usize;
        Ok(self.relieve(now, &bridge, None, count))
    }

    /// Takes about so many endpoints from a bridge. A conference moves as a whole: as many go as fit into the number, the
    /// largest first; where none fits, the smallest.
    fn relieve(&mut self, now: Instant, bridge: &str, only: Option<&BareJid>, count: usize) -> Value {
        let sizes = self.conferences.iter().map(|(room, conference)| (room.clone(), conference.count_on(bridge)));
        let chosen =
            choose(sizes.filter(|(room, size)| *size > 0 && only.is_none_or(|only| only == room)).collect(), count);
        let (mut endpoints, mut conferences) = (0, 0);
        for room in chosen {
            let Some((conference, mut cx)) = self.conference(now, &room) else { continue };
            let left = conference.move_off(&mut cx, bridge);
            endpoints += left;
            conferences += usize::from(left > 0);
        }
        tracing::info!(bridge, asked = count, endpoints, conferences, "an operator moved endpoints to another bridge");
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

/// Conferences with about so many endpoints together.
fn choose(mut sizes: Vec<(BareJid, usize)>, count: usize) -> Vec<BareJid> {
    sizes.sort_by(|(_, a), (_, b)| b.cmp(a));
    let smallest = sizes.last().cloned();
    let mut left = count;
    let mut chosen = Vec::new();
    for (room, size) in sizes {
        if size <= left {
            left -= size;
            chosen.push(room);
        }
    }
    if chosen.is_empty() && count > 0 {
        chosen.extend(smallest.map(|(room, _)| room));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_conferences_that_fit_or_the_smallest() {
        let chosen = |sizes: &[usize], count| {
            let sized = sizes.iter().enumerate().map(|(n, size)| (format!("r{n}@c").parse().expect("a room"), *size));
            let sizes: std::collections::BTreeMap<BareJid, usize> = sized.clone().collect();
            choose(sized.collect(), count).iter().map(|room| sizes[room]).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[2, 5, 3], 8), [5, 3]);
        assert_eq!(chosen(&[2, 5, 3], 4), [3]);
        assert_eq!(chosen(&[2, 5, 3], 1), [2], "more than asked, but not less");
        assert_eq!(chosen(&[2, 5, 3], 100), [5, 3, 2]);
        assert_eq!((chosen(&[2, 5], 0), chosen(&[], 3)), (vec![], vec![]));
    }
}
