//! The suites of one worker once more, every client on another worker than the one before: nobody can tell.

#[path = "forward_control.rs"]
mod control;
#[path = "forward_rewrite.rs"]
mod rewrite;
#[path = "forward_video.rs"]
mod video;
