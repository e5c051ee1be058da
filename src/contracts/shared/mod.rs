//! What all contracts share: the daemon's streams, tokens and clock ([`control`]), typed documents that survive
//! restarts ([`collection`]), lookup of the streams that requests name ([`target`]), endpoints whose requests go to
//! several streams ([`receivers`]), and the contracts' configuration sections ([`sections`]). Nothing here depends on a
//! vendor.

pub mod collection;
pub mod control;
pub mod receivers;
pub mod sections;
pub mod target;
pub mod units;
