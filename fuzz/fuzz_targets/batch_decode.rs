//! Decodes batch headers from any bytes: no panic, and every accepted header survives a round trip.
#![no_main]

use forebay::batch::Batch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(batch) = Batch::decode(data) else { return };
    let mut again = batch.head.encode();
    again.extend_from_slice(batch.body);
    again.extend_from_slice(batch.results);
    let decoded = Batch::decode(&again).expect("an encoded batch can be decoded");
    assert_eq!((decoded.head, decoded.body, decoded.results), (batch.head, batch.body, batch.results));
});
