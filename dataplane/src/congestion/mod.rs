//! Who gets which picture size, how much a path carries, and what is left out when a worker cannot carry everything.

pub(crate) mod active;
pub(crate) mod allocation;
pub(crate) mod division;
pub mod estimator;
pub(crate) mod fair_share;
pub(crate) mod filler;
pub(crate) mod ladder;
pub(crate) mod layer;
pub mod prober;
pub(crate) mod reorder;
pub mod shedding;
