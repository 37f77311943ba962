//! colibri2: its elements and the conference state machine (bridge-protocol section 3).

pub mod elements;
