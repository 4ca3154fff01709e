#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tenured::fuzzing::record(data));
