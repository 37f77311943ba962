//! What the bridge does when the host's addresses change, or the public ones.

use std::time::Instant;

use super::Actor;
use crate::bridge::BridgeError;
use crate::bridge::addresses::Change;
use crate::bridge::discovery::ASKING_WORKER;
use crate::host;

impl Actor {
    /// Looks at the host now and then; an error when only a new start helps.
    pub(super) fn follow_addresses(&mut self, now: Instant) -> Result<(), BridgeError> {
        if !self.addresses.due(now) {
            return Ok(());
        }
        let (present, choice) = host::survey(self.chosen_by.as_ref());
        let before = self.addresses.advertised().to_vec();
        let changes = self.addresses.handle(now, &present, &choice);
        for change in &changes {
            match change {
                Change::Lost(address) => {
                    tracing::warn!(%address, "a media address has left this host; it is no longer offered to new endpoints");
                }
                Change::Back(address) => tracing::info!(%address, "a media address is on this host again"),
                Change::Unserved(address) => {
                    tracing::warn!(%address, "this host has a new address; restart the bridge to serve it");
                }
            }
        }
        if before != self.addresses.advertised() {
            self.colibri.set_local_addresses(self.addresses.advertised());
        }
        if before != self.addresses.advertised() || !changes.is_empty() {
            self.discovery.handle_addresses(now, self.addresses.living(), self.addresses.advertised());
        }
        match self.addresses.moved(now) {
            Some((before, now)) => Err(BridgeError::AddressesMoved { before, now }),
            None => Ok(()),
        }
    }

    /// Sends the questions of the search for public addresses, and takes over what it found.
    pub(super) fn follow_discovery(&mut self) {
        for command in self.discovery.take_commands() {
            self.workers.send(ASKING_WORKER, command);
        }
        if let Some(found) = self.discovery.take_addresses() {
            self.colibri.set_found_addresses(found);
        }
    }
}
