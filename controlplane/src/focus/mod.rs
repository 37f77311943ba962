//! The focus: rooms, owners, offers, bridges.

mod authentication;
mod breakouts;
mod brewery;
mod bridges;
mod caps;
mod cascade;
mod component_search;
mod components;
mod conference;
mod context;
mod dial;
mod error;
mod features;
mod former_rooms;
#[doc(hidden)]
pub mod fuzzing;
mod gateways;
mod handover;
mod http;
mod ice_failures;
mod ice_restart_totals;
mod json_message;
mod kept;
mod limits;
mod logins;
mod main_rooms;
mod messages;
mod metrics;
mod operator;
mod pins;
mod pool;
mod recording;
mod requests;
mod returning;
mod rooms;
mod router;
mod runner;
mod selection;
mod service;
mod settings;
mod source_info;
mod state;
mod state_check;
mod state_error;
mod statistics;
mod visitor_nodes;
mod visitors;
mod xml;

pub use error::FocusError;
pub use ice_failures::IceFailureSettings;
pub use logins::{LoginSettings, LoginType};
pub use runner::{Handing, run, run_handing};
pub use selection::{RegionGroups, SelectionSettings, Strategy};
pub use service::{Focus, Input, NodeEvent};
pub use settings::{
    FocusSettings, LoadRedistribution, RecordingSettings, SenderLimits, SignalingDelays, SourceLimits, SourceSettings,
    VisitorNode, VisitorSettings,
};
pub use state_error::FocusStateError;
pub use visitors::NodeId;
