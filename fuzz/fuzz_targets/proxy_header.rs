//! PROXY and forwarding headers from any peer: nothing panics, and a header parsed in pieces gives the same result.
#![no_main]

use forebay::http::transport::proxies::{ProxyHeader, Proxies, header};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<Vec<u8>>)| {
    let (bytes, fields) = input;
    let whole = header(&bytes);
    if let ProxyHeader::Whole(len, _) = whole {
        assert!(len <= bytes.len());
    }
    for len in 0..bytes.len().min(5000) {
        match header(&bytes[..len]) {
            ProxyHeader::Partial => {}
            decided => assert_eq!(decided, whole, "after {len} bytes"),
        }
    }
    let proxies = Proxies { trusted: vec!["10.0.0.0/8".parse().unwrap()], protocol: false };
    let mut headers = HeaderMap::new();
    for field in &fields {
        if let Ok(value) = HeaderValue::from_bytes(field) {
            headers.append("x-forwarded-for", value);
        }
    }
    proxies.forwarded_for(&headers, ([10, 0, 0, 1], 80).into());
});
