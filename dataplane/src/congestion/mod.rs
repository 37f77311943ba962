//! Who gets which picture size, how much a path carries, and what is left out when a worker cannot carry everything.

pub(crate) mod active;
pub mod allocation;
pub mod division;
pub mod estimator;
pub(crate) mod fair_share;
pub mod ladder;
pub mod layer;
pub mod limit;
pub mod prober;
pub(crate) mod reorder;
pub mod shedding;
