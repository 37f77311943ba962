//! The log of a program that a test has started: a thread of its own writes it, some time after the event.

#![allow(dead_code)] // Each test binary uses its own part of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a line may take.
const WAIT: Duration = Duration::from_secs(20);

/// Where the program writes its log; empty until it does.
pub struct ProgramLog(pub PathBuf);

impl ProgramLog {
    /// All of it so far.
    pub fn read(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Its lines above information, so far; all that there are once the program has ended in order.
    pub fn complaints(&self) -> Vec<String> {
        let loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        self.read().lines().filter(loud).map(str::to_owned).collect()
    }

    /// Waits for a line of a program that goes on.
    pub async fn says(&self, part: &str) {
        let start = Instant::now();
        while !self.read().contains(part) {
            assert!(start.elapsed() < WAIT, "{part} is not in {}", self.read());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
