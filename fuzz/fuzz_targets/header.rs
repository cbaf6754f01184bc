#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    shardfuse_properties::header::holds(bytes);
});
