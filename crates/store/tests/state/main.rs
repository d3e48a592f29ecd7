//! The store from outside: what it promises to the rest of the gateway.

mod answers;
mod crash;
mod disk;
mod files;
mod model;
mod retention;
mod samples;
mod sharing;
