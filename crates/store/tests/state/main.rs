//! The store from outside: what it promises to the rest of the gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, also in what its tests share")]

mod answers;
mod crash;
mod disk;
mod files;
mod model;
mod retention;
mod samples;
mod sharing;
