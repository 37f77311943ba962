//! A progress bar on the terminal; nothing where stderr is none.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that shows how far a command is.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that says what is being done.
    pub fn new(what: &str) -> Self {
        let bar = ProgressBar::new(0);
        // The template is constant and valid; a broken one would only look plain.
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So much of so much is done.
    pub fn set(&self, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
