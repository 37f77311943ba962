//! Who gets which picture size, how much a path carries, and what is left out when a worker cannot carry everything.

pub mod allocation;
pub mod division;
pub mod estimator;
pub mod ladder;
pub mod layer;
pub mod prober;
pub mod shedding;
