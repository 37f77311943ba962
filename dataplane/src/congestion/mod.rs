//! Who gets which picture size, and what is left out when a worker cannot carry everything.

pub mod allocation;
pub mod shedding;
