//! What `ringbridge-bench` can be asked: one module for each command.

pub mod cascade;
pub mod compare;
pub mod floor;
pub mod joins;
pub mod memory;
pub mod overload;
pub mod process;
pub mod record;
pub mod replay;
pub mod rooms;
pub mod saturate;
pub mod scale;
pub mod tune;
