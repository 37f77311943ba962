//! Whether a focus that another process wrote down can be gone on with. What the state machines count on is looked at here; what
//! they look up and do not find harms nobody.

use super::limits::IMPLAUSIBLE;
use super::service::Focus;
use super::state_error::{FocusStateError, contradiction};

/// Conferences that are read at most.
const MAX_CONFERENCES: usize = 100_000;

impl Focus {
    /// Refuses what no focus would have written.
    pub(super) fn check(&self) -> Result<(), FocusStateError> {
        let shared = &self.shared;
        let totals = [shared.arrivals, shared.invites, shared.refused.total()];
        let all = [
            ("too many conferences", self.conferences.len() <= MAX_CONFERENCES),
            (
                "a count that no focus reaches",
                totals.iter().all(|count| *count < IMPLAUSIBLE) && shared.totals.are_plausible(),
            ),
            ("requests", shared.requests.is_sound()),
            ("bridges", shared.bridges.is_sound()),
            ("logins", shared.logins.is_sound()),
            ("recordings", self.recording.is_sound()),
            ("calls", self.dial.is_sound()),
        ];
        if let Some((what, _)) = all.into_iter().find(|(_, sound)| !sound) {
            return Err(contradiction(what));
        }
        for (room, conference) in &self.conferences {
            if conference.room() != room {
                return Err(contradiction(format!("{room} is the conference of another room")));
            }
            conference.check().map_err(|what| contradiction(format!("{room}: {what}")))?;
        }
        let breakouts = self.conferences.values().filter_map(|conference| conference.main_room());
        if !shared.breakouts.are(breakouts) {
            return Err(contradiction("breakout rooms are not those of their main rooms"));
        }
        Ok(())
    }
}
