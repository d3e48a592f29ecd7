//! The vPDU's requests: every four bytes are a request that is written the same way, or refused.
#![no_main]

use farmgate_protocol::vpdu::{MAX_PORTS, Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; 4]| {
    let _ = Reply::decode(bytes[0]);
    match Request::decode(bytes) {
        Ok(request) => {
            if let Request::On(port) | Request::Off(port) | Request::Status(port) = request {
                assert!(port < MAX_PORTS);
                assert_eq!(request.encode(), bytes);
            }
            assert_eq!(Request::decode(request.encode()), Ok(request));
        }
        Err(refused) => assert_eq!(refused.0, u32::from_be_bytes(bytes)),
    }
});
