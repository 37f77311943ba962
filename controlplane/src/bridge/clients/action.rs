//! What the clients' state machine wants done.

use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::VideoType;
use ringbridge_dataplane::messages::Command;

use crate::bridge::messages::ToClient;
use crate::channel::Address;

/// Something that the caller must do, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Send a command to a worker.
    Command { worker: usize, command: Command },
    /// Send a message over the endpoint's WebSocket.
    Send { endpoint: EndpointId, message: ToClient },
    /// Open the WebSocket of the bridge behind a relay.
    Dial { relay: EndpointId, address: Address },
    /// Report to the colibri2 state machine what a source shows.
    VideoType { endpoint: EndpointId, source: String, video_type: VideoType },
}
