//! The receiving side: what one endpoint gets, on which SSRCs, under which numbers, and what its path carries.
//!
//! A [`subscription`] is one receiver of one source. Its [`projection`] makes one continuous stream of the pieces of the
//! source's encodings that the receiver gets, and [`rewrite`] writes a packet under the receiver's numbers and seals it.
//! [`downlink`] estimates the path; [`ssrc_slots`] gives receivers with SSRC rewriting their bounded set of SSRCs.

pub mod downlink;
pub mod keyframe;
pub mod projection;
pub mod rewrite;
pub mod round_trip;
pub mod ssrc_slots;
pub mod subscription;
