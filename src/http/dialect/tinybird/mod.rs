//! Tinybird's contract: the Events API (`events.rs`). Forebay's own API is the same with `wait=table`.

mod events;

pub use events::Tinybird;
