//! Who gets which picture size.

pub mod allocation;
