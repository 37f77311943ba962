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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ringbridge_dataplane::ids::{ConferenceId, EndpointId};

    use super::*;
    use crate::carried;

    /// From all over the list of commands: each is read as what it was.
    #[test]
    fn commands_that_wait_are_what_they_were() {
        let (now, endpoint, conference) = (Instant::now(), EndpointId(7), ConferenceId(3));
        let commands = [
            Command::ExpireConference { conference },
            Command::SetForceMute { endpoint, audio: true, video: false },
            Command::ExpireEndpoint { endpoint },
            Command::SetUnsignalled { endpoint, sources: vec!["a-v0".to_owned()] },
        ];
        let pending = Pending::new(commands.into_iter().enumerate());
        let written = carried::write(now, &pending).expect("it is written");
        assert_eq!(carried::read::<Pending>(now, &written), Ok(pending));
    }
}
