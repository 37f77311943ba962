//! The environments of docker-jitsi-meet's containers for the bridge and for Jicofo.

pub(super) mod jicofo;
mod variables;
pub(super) mod videobridge;

/// Where the images look for files of the operator's.
pub(super) const FOLDER: &str = "/config";
/// What they read there from before today's files.
pub(super) const PROPERTIES: [&str; 2] = ["custom-sip-communicator.properties", "sip-communicator.properties"];
