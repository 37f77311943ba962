//! The suites of one worker once more, every client on another worker than the one before: nobody sees a difference.
// Each suite brings its own copy of the call, as it does alone.
#![allow(clippy::duplicate_mod)]

#[path = "forward_control.rs"]
mod control;
#[path = "forward_rewrite.rs"]
mod rewrite;
#[path = "forward_ssrc_rewriting.rs"]
mod ssrc_rewriting;
#[path = "forward_video.rs"]
mod video;
