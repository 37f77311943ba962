//! Visitors: the servers that they are sent to, and what decides who becomes one. What a conference does with them is in
//! `conference::visitors`.

mod codecs;
mod invited;
mod nodes;
mod token;

pub(super) use codecs::{Codecs, codecs_of};
pub(super) use invited::Invited;
pub use nodes::NodeId;
pub(super) use nodes::Nodes;
pub(super) use token::Bearer;
