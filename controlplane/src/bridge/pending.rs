//! Commands that workers were not given any more before they were suspended: the workers of another process are given them first.

use ringbridge_dataplane::messages::Command;
use serde::{Deserialize, Serialize};

/// Commands by worker, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending(Vec<(usize, Command)>);

impl Pending {
    /// Of these, those that another process cannot ask for itself.
    pub fn new(commands: impl Iterator<Item = (usize, Command)>) -> Self {
        Self(commands.filter(|(_, command)| !matches!(command, Command::AskServer { .. })).collect())
    }

    /// What is wrong with them, if anything.
    pub fn check(&self, workers: usize) -> Result<(), String> {
        match self.0.iter().find(|(worker, command)| *worker >= workers || matches!(command, Command::Shutdown)) {
            Some((worker, _)) => Err(format!("a command for worker {worker} that there is no worker for")),
            None => Ok(()),
        }
    }

    /// Takes them.
    pub fn into_commands(self) -> Vec<(usize, Command)> {
        self.0
    }
}
