//! The farm file: any text is read, or refused with findings that can be shown.
#![no_main]

use std::{net::Ipv4Addr, sync::Arc};

use farmgate_mars::{CheckContext, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let context = CheckContext {
        extra_pdus: ["VPDU".to_owned()].into(),
        pdu_check: Arc::new(
            |driver, _| if driver == "bad" { Err("no such driver".to_owned()) } else { Ok(()) },
        ),
        private_network: Some((Ipv4Addr::new(10, 42, 0, 1), 24)),
    };
    match parse("mars_db.yaml", text, &context) {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                assert!(!warning.render("mars_db.yaml").is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
