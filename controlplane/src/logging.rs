//! Structured logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Logging;

/// Starts logging; `RUST_LOG` wins over the configuration.
pub fn start(logging: &Logging) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&logging.filter))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours are for people, not for files and journals.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // A second start, as in tests, leaves the first in place.
    let _ = if logging.json { builder.json().try_init() } else { builder.try_init() };
}
