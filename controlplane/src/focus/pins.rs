//! Rooms whose next conference may be on one version of bridges alone (docs/protocol/focus.md 9).

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use jid::BareJid;
use serde_json::{Value, json};

use crate::civil;

/// Pins at a time.
pub(super) const MAX_PINS: usize = 1_000;
/// Bytes of a version.
const MAX_VERSION: usize = 200;
/// How long a room is pinned at most: a year.
const MOST_MINUTES: u64 = 366 * 24 * 60;

/// One pin.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Pin {
    version: String,
    #[serde(with = "crate::carried")]
    until: Instant,
    /// The same, for people.
    expires: SystemTime,
}

/// All pins.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Pins(BTreeMap<BareJid, Pin>);

impl Pins {
    /// Pins a room for that many minutes, or changes its pin. An error says what is wrong.
    pub fn set(
        &mut self,
        now: (Instant, SystemTime),
        room: BareJid,
        version: String,
        minutes: u64,
    ) -> Result<(), String> {
        self.expire(now.0);
        if version.is_empty() || version.len() > MAX_VERSION {
            return Err(format!("jvbVersion has to be a text of at most {MAX_VERSION} bytes"));
        }
        if minutes > MOST_MINUTES {
            return Err(format!("durationMinutes {minutes}: {MOST_MINUTES} are the most"));
        }
        if self.0.len() >= MAX_PINS && !self.0.contains_key(&room) {
            return Err(format!("{MAX_PINS} rooms are pinned already; remove one with /pin/remove"));
        }
        let time = Duration::from_secs(minutes * 60);
        self.0.insert(room, Pin { version, until: now.0 + time, expires: now.1 + time });
        Ok(())
    }

    /// Removes a pin; whether there was one.
    pub fn remove(&mut self, room: &BareJid) -> bool {
        self.0.remove(room).is_some()
    }

    /// The version that a room's next conference has to be on.
    pub fn version(&self, room: &BareJid, now: Instant) -> Option<&str> {
        self.0.get(room).filter(|pin| pin.until > now).map(|pin| pin.version.as_str())
    }

    /// All of them, as Jicofo lists them.
    pub fn list(&mut self, now: Instant) -> Value {
        self.expire(now);
        let one = |(room, pin): (&BareJid, &Pin)| {
            let expires = timestamp(pin.expires);
            json!({ "conferenceId": room.to_string(), "jvbVersion": pin.version, "expiresAt": expires })
        };
        self.0.iter().map(one).collect()
    }

    fn expire(&mut self, now: Instant) {
        self.0.retain(|_, pin| pin.until > now);
    }
}

/// RFC 3339, in UTC, to the second.
fn timestamp(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (day, rest) = (civil::date(seconds / 86_400), seconds % 86_400);
    format!("{day}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(n: usize) -> BareJid {
        format!("r{n}@conference.meet.test").parse().expect("a room")
    }

    #[test]
    fn times_of_day() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_915_845, "2026-11-29T01:30:45Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_pin_lasts_as_long_as_was_said_and_there_are_not_too_many() {
        let mut pins = Pins::default();
        let now = (Instant::now(), SystemTime::UNIX_EPOCH);
        pins.set(now, room(1), "2.3".into(), 10).expect("free");
        pins.set(now, room(1), "2.4".into(), 5).expect("changed");
        let later = |minutes: u64| now.0 + Duration::from_secs(60 * minutes);
        assert_eq!(pins.version(&room(1), later(4)), Some("2.4"));
        assert_eq!((pins.version(&room(1), later(5)), pins.version(&room(2), now.0)), (None, None));
        let listed = json!([{ "conferenceId": "r1@conference.meet.test", "jvbVersion": "2.4", "expiresAt": "1970-01-01T00:05:00Z" }]);
        assert_eq!((pins.list(later(4)), pins.list(later(6))), (listed, json!([])));
        for (version, minutes) in
            [("", 1), (&"x".repeat(MAX_VERSION + 1), 1), ("2.3", MOST_MINUTES + 1), ("2.3", u64::MAX)]
        {
            assert!(pins.set(now, room(1), version.into(), minutes).is_err(), "{version:.9} {minutes}");
        }
        for n in 0..MAX_PINS {
            pins.set(now, room(n), "2.3".into(), 1).expect("free");
        }
        assert!(pins.set(now, room(MAX_PINS), "2.3".into(), 1).is_err());
        pins.set(now, room(0), "2.4".into(), 1).expect("it has one");
        assert!(pins.remove(&room(7)) && !pins.remove(&room(7)));
        pins.set(now, room(MAX_PINS), "2.3".into(), 1).expect("one was removed");
        pins.set((later(2), now.1), room(7), "2.3".into(), 1).expect("all expired");
        assert_eq!(pins.0.len(), 1);
    }
}
