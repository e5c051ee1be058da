//! What all contracts share: the daemon's streams, tokens and clock ([`control`]), typed documents that outlive a start
//! ([`collection`]), streams as requests name them ([`target`]), endpoints whose requests go to several streams
//! ([`receivers`]), and the sections of the configuration that contracts are made from ([`sections`]). Nothing here knows a
//! vendor.

pub mod collection;
pub mod control;
pub mod receivers;
pub mod sections;
pub mod target;
pub mod units;
