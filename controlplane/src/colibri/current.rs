//! How many conferences and endpoints there are, and what they do.

use ringbridge_dataplane::media::MediaKind;

use super::conference::Conference;
use super::totals::Totals;

/// What was counted so far, with the numbers of the conferences that there are.
pub(super) fn with_current<'a>(totals: Totals, conferences: impl Iterator<Item = &'a Conference> + Clone) -> Totals {
    let endpoints = || conferences.clone().flat_map(Conference::endpoints);
    let sending = |kind| endpoints().filter(|e| e.sources().iter().any(|s| s.kind == kind)).count();
    let inactive = || conferences.clone().filter(|c| c.endpoints().iter().all(|e| e.sources().is_empty()));
    Totals {
        conferences: conferences.clone().count(),
        endpoints: endpoints().count(),
        relays: conferences.clone().map(|c| c.relays().len()).sum(),
        endpoints_relayed: conferences.clone().map(|c| c.population() - c.endpoints().len()).sum(),
        conferences_with_relay: conferences.clone().filter(|c| !c.relays().is_empty()).count(),
        visitors: endpoints().filter(|e| e.who().visitor).count(),
        largest_conference: conferences.clone().map(|c| c.endpoints().len()).max().unwrap_or(0),
        endpoints_sending_audio: sending(MediaKind::Audio),
        endpoints_sending_video: sending(MediaKind::Video),
        receive_only_endpoints: endpoints().filter(|e| e.sources().is_empty()).count(),
        inactive_conferences: inactive().count(),
        p2p_conferences: inactive().filter(|c| c.endpoints().len() == 2).count(),
        inactive_endpoints: inactive().map(|c| c.endpoints().len()).sum(),
        ..totals
    }
}
