//! Structured logs on standard error. Nobody waits for whoever reads them: lines go through a bounded queue to a thread
//! of its own, and what cannot be written is left out and counted. Also what the program prints.

mod counters;
mod occasional;
mod queue;
mod settings;
mod terminal;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

pub use counters::LogCounters;
pub use occasional::Occasional;
use queue::Queue;
pub use settings::Logging;
pub use terminal::{complain, print};

/// Longest that the end of the process waits for lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Keeps logging going; dropping it writes what still waits, as far as that goes quickly.
#[derive(Debug)]
pub struct LogGuard {
    queue: Arc<Queue>,
}

impl LogGuard {
    /// What this log counts.
    pub fn counters(&self) -> Arc<LogCounters> {
        self.queue.counters()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.finish(LAST_LINES);
    }
}

/// Starts logging; `RUST_LOG` wins over the configuration. Panics are logged too.
pub fn start(logging: &Logging) -> LogGuard {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&logging.filter))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let queue = Arc::new(Queue::default());
    writer::spawn(Arc::clone(&queue));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(Arc::clone(&queue)))
        // Else it reports a failure with a macro that panics when standard error cannot be written.
        .log_internal_errors(false);
    // Colours are for people, not for files and journals.
    let builder = builder.with_ansi(io::stderr().is_terminal());
    // A second start, as in tests, leaves the first in place.
    let _ = if logging.json { builder.json().try_init() } else { builder.try_init() };
    log_panics(Arc::clone(&queue), logging.json);
    LogGuard { queue }
}

/// Where the subscriber writes: it hands over each line with one call.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The standard hook writes to standard error itself, and waits for whoever does not read that.
fn log_panics(queue: Arc<Queue>, json: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let payload = panic.payload();
        let what = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let what = what.unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        let message = format!("thread {thread} panicked at {location}: {what}{trace}");
        queue.push(panic_line(&time, &message, json).as_bytes());
    }));
}

fn panic_line(time: &str, message: &str, json: bool) -> String {
    if json {
        let fields = serde_json::json!({ "message": message });
        let line = serde_json::json!({ "timestamp": time, "level": "ERROR", "target": "panic", "fields": fields });
        format!("{line}\n")
    } else {
        format!("{time} ERROR panic: {message}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let line = panic_line("now", "thread a panicked at b.rs:1:2: \"c\"", true);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["fields"]["message"], "thread a panicked at b.rs:1:2: \"c\"");
        assert!(line.ends_with("}\n"));
        assert_eq!(panic_line("now", "x", false), "now ERROR panic: x\n");
    }
}
