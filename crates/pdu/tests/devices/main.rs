//! The drivers of devices that speak HTTP or TCP, of USB hubs, and of programs, each against a simulator written
//! from the vendor's manual. Every one goes through the conformance suite; what only one of them knows follows it.
#![allow(clippy::unwrap_used)] // all of this file is tests

#[path = "../conformance/mod.rs"]
mod conformance;

mod command;
mod devantech;
mod device;
mod gude;
mod home_assistant;
mod ipmi;
mod kernelchip;
mod netio;
mod redfish;
mod scripts;
mod shelly;
mod tasmota;
mod usbhub;
mod web;

use std::pin::Pin;

use tokio::task::LocalSet;

type Case = Pin<Box<dyn Future<Output = ()>>>;

/// Every simulator through the conformance suite. All at once: most of the time they wait for a device that is silent.
#[tokio::test]
async fn every_driver_conforms() {
    let cases: [(&str, Case); 13] = [
        ("command", Box::pin(command::conforms())),
        ("devantech", Box::pin(devantech::conforms())),
        ("devantech with a password", Box::pin(devantech::conforms_with_a_password())),
        ("gude", Box::pin(gude::conforms())),
        ("home_assistant", Box::pin(home_assistant::conforms())),
        ("ipmi", Box::pin(ipmi::conforms())),
        ("kernelchip", Box::pin(kernelchip::conforms())),
        ("netio", Box::pin(netio::conforms())),
        ("redfish", Box::pin(redfish::conforms())),
        ("shelly of generation 1", Box::pin(shelly::first_generation_conforms())),
        ("shelly of later generations", Box::pin(shelly::later_generation_conforms())),
        ("tasmota", Box::pin(tasmota::conforms())),
        ("usbhub", Box::pin(usbhub::conforms())),
    ];
    let tasks = LocalSet::new();
    let running = cases.map(|(name, case)| (name, tasks.spawn_local(case)));
    let mut failed = Vec::new();
    tasks
        .run_until(async {
            for (name, case) in running {
                if case.await.is_err() {
                    failed.push(name);
                }
            }
        })
        .await;
    assert!(failed.is_empty(), "these do not conform, see above: {failed:?}");
}
