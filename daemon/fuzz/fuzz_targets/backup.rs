#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tenured::fuzzing::backup(data));
