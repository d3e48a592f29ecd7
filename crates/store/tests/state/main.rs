//! The store from outside: what it promises to the rest of the gateway.

mod answers;
mod samples;
