//! Base 85: any text is read or refused, and what is read is what would be written.
#![no_main]

use farmgate_protocol::base85::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    assert_eq!(decode(&encode(data)).as_deref(), Ok(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    match decode(text) {
        // A last group that is not whole can be written in more than one way, so only the bytes are compared.
        Ok(bytes) => assert_eq!(decode(&encode(&bytes)), Ok(bytes)),
        Err(error) => assert!(error.at < text.len()),
    }
});
