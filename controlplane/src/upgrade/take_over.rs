//! The new process' side of an upgrade: does what the [`Successor`] asks for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::envelope::{StateParts, open};
use super::message::{Hello, Message};
use super::sealed::read_sealed;
use super::successor::{Successor, SuccessorAction, SuccessorInput};
use super::wire::{Received, Wire};

/// What is to become of the calls in the new process.
pub trait Heir {
    /// Makes what needs no state.
    fn prepare(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// Puts everything in its place. Nothing may be sent or received.
    fn import(
        &mut self,
        parts: StateParts,
        descriptors: Vec<OwnedFd>,
    ) -> impl Future<Output = Result<(), String>> + Send;
    /// Receives and sends from now on.
    fn serve(&mut self) -> impl Future<Output = ()> + Send;
}

/// Takes over, and says how long nothing was sent up to the commit; with an error the calls are the running process's, and this one has to end.
pub async fn take_over(wire: &mut Wire, own: Hello, heir: &mut impl Heir) -> Result<Duration, String> {
    let mut frozen = Duration::ZERO;
    let mut machine = Successor::new(own);
    let mut arrived = None;
    loop {
        while let Some(action) = machine.poll_action() {
            let answer = match action {
                SuccessorAction::Send(message) => {
                    let served = message == Message::Serving;
                    let sent = wire.send(&message).await;
                    if served {
                        // Whether anybody hears it or not.
                        return Ok(frozen);
                    }
                    sent.is_err().then_some(SuccessorInput::Gone)
                }
                SuccessorAction::Prepare => {
                    Some(heir.prepare().await.map_or_else(SuccessorInput::NotPrepared, |()| SuccessorInput::Prepared))
                }
                SuccessorAction::Import => {
                    let imported = import(arrived.take(), heir).await;
                    Some(imported.map_or_else(SuccessorInput::NotImported, |()| SuccessorInput::Imported))
                }
                SuccessorAction::Serve => {
                    heir.serve().await;
                    Some(SuccessorInput::Serving)
                }
                SuccessorAction::End(why) => return Err(why),
            };
            if let Some(input) = answer {
                machine.handle(input);
            }
        }
        machine.handle(match wire.receive().await {
            Ok(Received::Message(message)) => {
                if let Message::Commit { frozen_micros } = &message {
                    frozen = Duration::from_micros(*frozen_micros);
                }
                SuccessorInput::Message(message)
            }
            Ok(Received::State { file, length, descriptors }) => {
                let count = u32::try_from(descriptors.len()).unwrap_or(u32::MAX);
                arrived = Some((file, length, descriptors));
                SuccessorInput::Message(Message::State { length, descriptors: count })
            }
            Ok(Received::Gone) => SuccessorInput::Gone,
            Err(error) => SuccessorInput::Garbage(error.to_string()),
        });
    }
}

async fn import(arrived: Option<(OwnedFd, u64, Vec<OwnedFd>)>, heir: &mut impl Heir) -> Result<(), String> {
    let Some((file, length, descriptors)) = arrived else { return Err("there is no state".to_owned()) };
    let bytes = read_sealed(file, length).map_err(|error| error.to_string())?;
    let parts = open(&bytes).map_err(|error| error.to_string())?;
    drop(bytes);
    heir.import(parts, descriptors).await
}
