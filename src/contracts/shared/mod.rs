//! What all contracts share of the daemon: streams, tokens and objects ([`control`]), and endpoints whose requests go to
//! several streams ([`receivers`]).

pub mod control;
pub mod receivers;
