//! What the manual shows is what the drivers accept.
#![allow(clippy::unwrap_used)] // all of this file is tests

use farmgate_pdu::{drivers, make};
use serde_json::Value;

const MANUAL: &str = include_str!("../../../docs/pdus.md");

/// The code blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    page.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_example_of_the_manual_is_accepted() {
    let mut examples = 0;
    for block in blocks(MANUAL, "yaml") {
        let page: Value = serde_saphyr::from_str(block).unwrap();
        for (name, pdu) in page["pdus"].as_object().unwrap() {
            let driver = pdu["driver"].as_str().unwrap();
            assert!(make(driver, &pdu["config"]).map_err(|error| println!("{name}: {error}")).is_ok());
            examples += 1;
        }
    }
    assert!(examples >= 5, "only {examples} examples were found");
}

#[test]
fn every_driver_has_a_row_in_the_manual() {
    for driver in drivers() {
        assert!(
            MANUAL.contains(&format!("\n| `{}` |", driver.name)),
            "{} is missing in docs/pdus.md",
            driver.name
        );
    }
}
