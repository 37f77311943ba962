//! Who speaks, and who is loud enough to be forwarded. Both see levels only, never sound.

pub mod loudest;
pub mod speaker;
