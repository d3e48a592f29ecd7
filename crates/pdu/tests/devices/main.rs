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
