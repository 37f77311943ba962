//! What is on the screen: readings, failures and keys go in, the state of the view comes out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::reading::Reading;
use super::snapshot::Snapshot;
use super::table::{Cell, View};

/// Readings of which the rate of outgoing packets is remembered.
const HISTORY: usize = 240;
/// Rows that a page key moves by.
const PAGE: isize = 10;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// This view.
    View(View),
    /// The view after this one.
    NextView,
    /// The view before this one.
    PreviousView,
    /// Sort by the column after this one.
    NextColumn,
    /// Sort by the column before this one.
    PreviousColumn,
    /// Sort the other way round.
    Reverse,
    /// One row down.
    Down,
    /// One row up.
    Up,
    /// A page of rows down.
    PageDown,
    /// A page of rows up.
    PageUp,
    /// Hold what is shown, or go on.
    Pause,
    /// End.
    Quit,
}

/// Everything that is shown.
#[derive(Debug, Clone)]
pub struct Model {
    address: String,
    view: View,
    orders: [(usize, bool); View::ALL.len()],
    selected: [usize; View::ALL.len()],
    paused: bool,
    quit: bool,
    last: Option<(Instant, Reading)>,
    shown: Snapshot,
    failure: Option<String>,
    history: VecDeque<u64>,
}

impl Model {
    /// Nothing read yet from `address`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            view: View::default(),
            orders: View::ALL.map(View::order),
            selected: [0; View::ALL.len()],
            paused: false,
            quit: false,
            last: None,
            shown: Snapshot::default(),
            failure: None,
            history: VecDeque::new(),
        }
    }

    /// The pages were read, or could not be.
    pub fn handle_reading(&mut self, now: Instant, reading: Result<Reading, String>) {
        if self.paused {
            return;
        }
        match reading {
            Ok(reading) => {
                self.shown = Snapshot::new(self.last.as_ref(), now, &reading);
                self.last = Some((now, reading));
                self.failure = None;
                if let Some(packets) = self.shown.total.packets_out {
                    self.history.push_back(packets.round() as u64);
                    if self.history.len() > HISTORY {
                        self.history.pop_front();
                    }
                }
                // What was selected may be gone.
                for view in View::ALL {
                    let last = view.rows(&self.shown).len().saturating_sub(1);
                    self.selected[view.index()] = self.selected[view.index()].min(last);
                }
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// A key was pressed.
    pub fn handle_key(&mut self, key: Key) {
        let views = View::ALL.len();
        let columns = self.view.columns().len();
        let order = &mut self.orders[self.view.index()];
        match key {
            Key::View(view) => self.view = view,
            Key::NextView => self.view = View::ALL[(self.view.index() + 1) % views],
            Key::PreviousView => self.view = View::ALL[(self.view.index() + views - 1) % views],
            Key::NextColumn => order.0 = (order.0 + 1) % columns,
            Key::PreviousColumn => order.0 = (order.0 + columns - 1) % columns,
            Key::Reverse => order.1 = !order.1,
            Key::Down => self.select(1),
            Key::Up => self.select(-1),
            Key::PageDown => self.select(PAGE),
            Key::PageUp => self.select(-PAGE),
            Key::Pause => self.paused = !self.paused,
            Key::Quit => self.quit = true,
        }
    }

    fn select(&mut self, by: isize) {
        let last = self.view.rows(&self.shown).len().saturating_sub(1);
        let selected = &mut self.selected[self.view.index()];
        *selected = selected.saturating_add_signed(by).min(last);
    }

    /// Whether the operator wants to end.
    pub fn ended(&self) -> bool {
        self.quit
    }

    /// Whether what is shown is held.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Where the readings come from.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The view that is open.
    pub fn view(&self) -> View {
        self.view
    }

    /// Column that it is sorted by, and whether the largest comes first.
    pub fn order(&self) -> (usize, bool) {
        self.orders[self.view.index()]
    }

    /// The row that is marked.
    pub fn selected(&self) -> usize {
        self.selected[self.view.index()]
    }

    /// Its rows in order.
    pub fn rows(&self) -> Vec<Vec<Cell>> {
        let (column, largest_first) = self.order();
        let mut rows = self.view.rows(&self.shown);
        // Equal ones keep their order, so that rows do not jump about.
        rows.sort_by(|a, b| {
            let order = a[column].order(&b[column]);
            if largest_first { order.reverse() } else { order }
        });
        rows
    }

    /// What was read last; `None` before the first reading.
    pub fn shown(&self) -> Option<&Snapshot> {
        self.last.is_some().then_some(&self.shown)
    }

    /// Outgoing packets per second, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.history.iter().copied()
    }

    /// Why the last try failed, and how old what is shown is.
    pub fn failure(&self, now: Instant) -> Option<(&str, Option<Duration>)> {
        let age = self.last.as_ref().map(|(at, _)| now.saturating_duration_since(*at));
        self.failure.as_deref().map(|failure| (failure, age))
    }
}
