#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringbridge_fuzz::handover_bridge::run(data));
