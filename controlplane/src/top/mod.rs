//! `ringbridge top`: a live view of a running bridge, read from the pages that it serves to operators.

mod client;
mod draw;
mod model;
mod reading;
mod snapshot;
mod table;

use std::io::{self, Write};
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use client::Client;
pub use draw::draw;
pub use model::{Key, Model};
pub use reading::{NotABridge, Pages, Reading};
pub use snapshot::{ConferenceRow, DropRow, EndpointRow, Rates, RelayRow, Snapshot, WorkerRow};
pub use table::{Cell, Column, View, plain};

/// How long a reading may wait for the screen.
const KEY_WAIT: Duration = Duration::from_millis(50);
/// The screen is drawn at least this often.
const REDRAW: Duration = Duration::from_secs(1);

/// What to show, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Host and port of the bridge's pages.
    pub address: String,
    /// Time between two readings.
    pub interval: Duration,
    /// Live, or once for a pipe.
    pub output: Output,
}

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The terminal, until the operator ends it.
    Live,
    /// Plain text, once.
    Text,
    /// One JSON object, once.
    Json,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The bridge cannot be read.
    #[error("{0}")]
    Unread(String),
    /// The terminal cannot be used.
    #[error("cannot use this terminal: {0}; --once and --json print instead")]
    Terminal(io::Error),
    /// What was to be printed cannot be.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// Shows a bridge.
///
/// # Errors
/// When the terminal cannot be used; printing once, also when the bridge cannot be read.
pub fn run(options: &Options) -> Result<(), TopError> {
    match options.output {
        Output::Live => live(options),
        Output::Text | Output::Json => once(options),
    }
}

/// Two readings, since rates need two, and what they show.
fn once(options: &Options) -> Result<(), TopError> {
    let client = Client::new(&options.address);
    let first = (Instant::now(), client.read().map_err(TopError::Unread)?);
    std::thread::sleep(options.interval);
    let second = client.read().map_err(TopError::Unread)?;
    let shown = Snapshot::new(Some(&first), Instant::now(), &second);
    let text = match options.output {
        Output::Json => {
            let text = serde_json::to_string(&shown).map_err(|error| TopError::Print(error.into()))?;
            text + "\n"
        }
        _ => report(&options.address, &shown),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it may have seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(TopError::Print(error)),
        _ => Ok(()),
    }
}

/// Everything as plain text.
pub fn report(address: &str, shown: &Snapshot) -> String {
    let health = match &shown.reason {
        None if shown.healthy => "healthy".to_owned(),
        reason => format!("unhealthy: {}", reason.as_deref().unwrap_or("no reason given")),
    };
    let mut text = format!(
        "ringbridge {} at {address}  {health}{}  {}  stress {:.2}  xmpp {}/{}\n{}\n",
        shown.version,
        if shown.drain { "  draining" } else { "" },
        shown.shutdown_state,
        shown.stress,
        shown.xmpp_connected,
        shown.xmpp_configured,
        draw::traffic(shown),
    );
    for view in View::ALL {
        text += &format!("\n{}:\n{}", view.name(), plain(view, shown));
    }
    text
}

fn live(options: &Options) -> Result<(), TopError> {
    let (readings, read) = mpsc::sync_channel(1);
    let (client, interval) = (Client::new(&options.address), options.interval);
    // Ends with the process, or when nobody takes its readings any more.
    std::thread::spawn(move || {
        while readings.send((Instant::now(), client.read())).is_ok() {
            std::thread::sleep(interval);
        }
    });
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let result = watch(&mut terminal, Model::new(options.address.clone()), &read);
    // Not `restore`, which panics where its failure cannot be reported.
    let _ = ratatui::try_restore();
    result
}

/// Shows readings and follows keys until the operator ends it.
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    mut model: Model,
    read: &mpsc::Receiver<(Instant, Result<Reading, String>)>,
) -> Result<(), TopError> {
    let mut drawn: Option<Instant> = None;
    loop {
        match read.try_recv() {
            Ok((at, reading)) => {
                model.handle_reading(at, reading);
                drawn = None;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(TopError::Unread("the thread that reads the bridge ended; this is a defect".to_owned()));
            }
        }
        let now = Instant::now();
        // Nothing new, but what is shown grows older.
        if drawn.is_none_or(|at| now.saturating_duration_since(at) >= REDRAW) {
            terminal.draw(|frame| draw(frame, &model, now)).map_err(TopError::Terminal)?;
            drawn = Some(now);
        }
        if !event::poll(KEY_WAIT).map_err(TopError::Terminal)? {
            continue;
        }
        // A key, or another size of the terminal.
        drawn = None;
        if let Event::Key(key) = event::read().map_err(TopError::Terminal)?
            && key.kind != KeyEventKind::Release
            && let Some(key) = meaning(key)
        {
            model.handle_key(key);
        }
        if model.ended() {
            return Ok(());
        }
    }
}

/// What a key asks for.
fn meaning(key: KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Key::Quit);
    }
    Some(match key.code {
        KeyCode::Char(digit @ '1'..='5') => Key::View(View::ALL[usize::from(digit as u8 - b'1')]),
        KeyCode::Tab | KeyCode::Right => Key::NextView,
        KeyCode::BackTab | KeyCode::Left => Key::PreviousView,
        KeyCode::Char('s') => Key::NextColumn,
        KeyCode::Char('S') => Key::PreviousColumn,
        KeyCode::Char('r') => Key::Reverse,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::Char(' ') => Key::Pause,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        _ => return None,
    })
}
