//! The five views as tables of texts that sort by what they mean.

use std::cmp::Ordering;

use super::snapshot::Snapshot;

/// What may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// What the threads that move packets do.
    #[default]
    Workers,
    /// What was left out, and why.
    Drops,
    /// Conferences.
    Conferences,
    /// Endpoints and the ways to them.
    Endpoints,
    /// Links to other bridges.
    Relays,
}

impl View {
    /// All of them, in the order of their keys.
    pub const ALL: [Self; 5] = [Self::Workers, Self::Drops, Self::Conferences, Self::Endpoints, Self::Relays];

    /// Position among all.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Drops => "drops",
            Self::Conferences => "conferences",
            Self::Endpoints => "endpoints",
            Self::Relays => "relays",
        }
    }

    /// What its rows are at first sorted by: column, and whether the largest comes first.
    pub fn order(self) -> (usize, bool) {
        match self {
            Self::Workers => (0, false),
            Self::Drops => (1, true),
            Self::Conferences => (2, true),
            Self::Endpoints => (0, false),
            // Dead ones first.
            Self::Relays => (8, true),
        }
    }

    /// Heads of its columns.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Workers => WORKERS,
            Self::Drops => DROPS,
            Self::Conferences => CONFERENCES,
            Self::Endpoints => ENDPOINTS,
            Self::Relays => RELAYS,
        }
    }

    /// Its rows, as the snapshot has them.
    pub fn rows(self, shown: &Snapshot) -> Vec<Vec<Cell>> {
        match self {
            Self::Workers => workers(shown),
            Self::Drops => drops(shown),
            Self::Conferences => conferences(shown),
            Self::Endpoints => endpoints(shown),
            Self::Relays => relays(shown),
        }
    }
}

/// Head of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Characters that its values take, or should be given.
    pub width: u16,
    /// Whether the values are texts, on the left.
    pub text: bool,
}

const fn number(name: &'static str, width: u16) -> Column {
    Column { name, width, text: false }
}

const fn text(name: &'static str, width: u16) -> Column {
    Column { name, width, text: true }
}

const WORKERS: &[Column] = &[
    number("worker", 6),
    number("load %", 6),
    number("in p/s", 7),
    number("out p/s", 7),
    number("in bit/s", 8),
    number("out bit/s", 9),
    number("drops/s", 7),
    number("handover/s", 10),
    number("syscalls/p", 10),
    number("shedding", 8),
];
const DROPS: &[Column] = &[text("reason", 26), number("per s", 8), number("total", 10), text("most on worker", 20)];
const CONFERENCES: &[Column] = &[
    text("conference", 40),
    text("id", 16),
    number("endpoints", 9),
    number("active", 6),
    number("audio", 5),
    number("video", 5),
    number("sent", 8),
    number("estimate", 8),
    text("workers", 10),
];
const ENDPOINTS: &[Column] = &[
    text("endpoint", 8),
    text("name", 12),
    text("conference", 16),
    number("worker", 6),
    text("state", 6),
    text("channel", 7),
    text("a+v", 5),
    number("gets", 4),
    number("sent", 7),
    number("target", 7),
    number("wants", 7),
    number("estimate", 8),
    number("rtt ms", 6),
    number("loss %", 6),
];
const RELAYS: &[Column] = &[
    text("relay", 24),
    text("conference", 16),
    text("mesh", 4),
    number("worker", 6),
    text("state", 6),
    text("channel", 7),
    number("behind", 6),
    number("wanted", 6),
    number("dead s", 6),
];

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// As shown.
    pub text: String,
    /// What it is sorted by; a text by itself.
    value: Option<f64>,
    /// Whether somebody should look at it.
    pub alarm: bool,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None, alarm: false }
    }

    fn value(value: Option<f64>, format: impl Fn(f64) -> String) -> Self {
        Self { text: value.map_or_else(|| "-".to_owned(), format), value: Some(value.unwrap_or(-1.0)), alarm: false }
    }

    fn alarm_if(self, alarm: bool) -> Self {
        Self { alarm, ..self }
    }

    /// The order of two cells of a column.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self.value, other.value) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => self.text.cmp(&other.text),
        }
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// With at most four digits and the unit's letter: 950, 12.3k, 4.56M.
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size < 999.5 => return whole(value),
        size if size < 999_500.0 => (value / 1e3, "k"),
        size if size < 999_500_000.0 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    let digits = match scaled.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{unit}")
}

fn rate(value: f64) -> String {
    if value > 0.0 && value < 10.0 { format!("{value:.1}") } else { short(value) }
}

fn workers(shown: &Snapshot) -> Vec<Vec<Cell>> {
    let row = |worker: &super::snapshot::WorkerRow| {
        let rates = worker.rates;
        vec![
            Cell::value(Some(worker.worker as f64), whole),
            Cell::value(worker.load, percent).alarm_if(worker.load.is_some_and(|load| load > 0.8)),
            Cell::value(rates.packets_in, short),
            Cell::value(rates.packets_out, short),
            Cell::value(rates.bits_in, short),
            Cell::value(rates.bits_out, short),
            Cell::value(rates.drops, rate),
            Cell::value(worker.handovers, rate),
            Cell::value(worker.syscalls_per_packet, |calls| format!("{calls:.3}")),
            Cell::value(Some(worker.shedding_level), whole).alarm_if(worker.shedding_level > 0.0),
        ]
    };
    shown.workers.iter().map(row).collect()
}

/// What rises only when something is short of room.
const SHORT_OF_ROOM: [&str; 5] = ["socket_overflow", "output_full", "handover_full", "cross_worker_full", "shed"];

fn drops(shown: &Snapshot) -> Vec<Vec<Cell>> {
    let row = |drop: &super::snapshot::DropRow| {
        let alarm = SHORT_OF_ROOM.contains(&drop.reason.as_str()) && drop.per_second.is_some_and(|rate| rate > 0.0);
        let (worker, count) = drop.most;
        vec![
            Cell::text(&drop.reason).alarm_if(alarm),
            Cell::value(drop.per_second, rate).alarm_if(alarm),
            Cell::value(Some(drop.total), short),
            Cell::text(format!("{worker} ({} %)", whole(count / drop.total * 100.0))),
        ]
    };
    shown.drops.iter().map(row).collect()
}

fn conferences(shown: &Snapshot) -> Vec<Vec<Cell>> {
    let row = |conference: &super::snapshot::ConferenceRow| {
        let numbers: Vec<_> = conference.workers.iter().map(usize::to_string).collect();
        vec![
            Cell::text(&conference.name),
            Cell::text(&conference.id),
            Cell::value(Some(conference.endpoints as f64), whole),
            Cell::value(Some(conference.active as f64), whole),
            Cell::value(Some(conference.audio_sources as f64), whole),
            Cell::value(Some(conference.video_sources as f64), whole),
            Cell::value(Some(conference.sent_bps), short),
            Cell::value(Some(conference.estimate_bps), short),
            Cell::text(numbers.join(",")),
        ]
    };
    shown.conferences.iter().map(row).collect()
}

fn endpoints(shown: &Snapshot) -> Vec<Vec<Cell>> {
    let row = |one: &super::snapshot::EndpointRow| {
        vec![
            Cell::text(&one.endpoint),
            Cell::text(one.stats_id.as_deref().unwrap_or("-")),
            Cell::text(&one.conference),
            Cell::value(Some(one.worker as f64), whole),
            Cell::text(one.state).alarm_if(one.state == "silent"),
            Cell::text(match one.channel.as_deref() {
                Some("WebSocket") => "ws",
                Some("Data") => "sctp",
                Some(other) => other,
                None => "none",
            }),
            Cell::text(format!("{}+{}", one.sources.0, one.sources.1)),
            Cell::value(Some(one.forwarded as f64), whole),
            Cell::value(one.sent_bps, short),
            Cell::value(one.target_bps, short),
            Cell::value(one.ideal_bps, short),
            Cell::value(one.estimate_bps, short),
            Cell::value(one.rtt_ms, whole),
            Cell::value(one.loss, percent).alarm_if(one.loss.is_some_and(|loss| loss > 0.1)),
        ]
    };
    shown.endpoints.iter().map(row).collect()
}

fn relays(shown: &Snapshot) -> Vec<Vec<Cell>> {
    let row = |one: &super::snapshot::RelayRow| {
        vec![
            Cell::text(&one.relay),
            Cell::text(&one.conference),
            Cell::text(&one.mesh),
            Cell::value(Some(one.worker as f64), whole),
            Cell::text(one.state).alarm_if(one.state == "dead"),
            Cell::text(if one.channel { "open" } else { "none" }).alarm_if(one.state == "media" && !one.channel),
            Cell::value(Some(one.behind as f64), whole),
            Cell::value(Some(one.wanted as f64), whole),
            Cell::value(one.dead_for_seconds, whole).alarm_if(one.dead_for_seconds.is_some()),
        ]
    };
    shown.relays.iter().map(row).collect()
}

/// A view as lines of plain text, as wide as its values.
pub fn plain(view: View, shown: &Snapshot) -> String {
    let rows = view.rows(shown);
    let columns = view.columns();
    let width = |n: usize| {
        let longest = rows.iter().map(|row| row[n].text.chars().count()).max().unwrap_or(0);
        longest.max(columns[n].name.len())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |texts: Vec<&str>| {
        let cells = texts.into_iter().zip(columns).zip(&widths).map(|((text, column), width)| {
            if column.text { format!("{text:<width$}") } else { format!("{text:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let head = line(columns.iter().map(|column| column.name).collect());
    let body = rows.iter().map(|row| line(row.iter().map(|cell| cell.text.as_str()).collect()));
    head + &body.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let texts = [0.0, 999.4, 999.6, 1_234.0, 12_340.0, 999_400.0, 999_600.0, 2.5e6, 1.5e9].map(short);
        assert_eq!(texts, ["0", "999", "1.00k", "1.23k", "12.3k", "999k", "1.00M", "2.50M", "1.50G"]);
        assert_eq!([rate(0.0), rate(0.25), rate(9.94), rate(1_500.0)], ["0", "0.2", "9.9", "1.50k"]);
    }

    #[test]
    fn unknown_values_are_the_least() {
        let of = |value| Cell::value(value, short);
        assert_eq!(of(None).order(&of(Some(0.0))), Ordering::Less);
        assert_eq!(of(Some(9.0)).order(&of(Some(10.0))), Ordering::Less, "by value, not by text");
        assert_eq!(Cell::text("b").order(&Cell::text("a")), Ordering::Greater);
    }
}
