//! Benchmarks of ringbridge: clients with real ICE and DTLS-SRTP, media, the forwarders that are compared, and what is
//! measured of them. Scripted participants, impaired links and attacks are in `ringbridge-load`.

#![forbid(unsafe_code)]

pub mod account;
pub mod arena;
pub mod commands;
pub mod cores;
pub mod cpu;
pub mod crypto;
pub mod generator;
pub mod handshake;
pub mod media;
pub mod progress;
pub mod scenario;
pub mod subject;
pub mod window;
