//! Bodies, paths into them, and mappings as clients send them. Nothing panics, and every value found by a path is JSON.
#![no_main]

use forebay::mapping::{Body, Mapping, Path, MappingRequest, RowId, headers, path_value, row};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use std::net::{IpAddr, Ipv4Addr};

fuzz_target!(|data: &[u8]| {
    let (head, body) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(0));
    let text = String::from_utf8_lossy(head);
    for content_type in ["application/json", "application/x-www-form-urlencoded"] {
        let Ok(parsed) = Body::parse(body, Some(content_type)) else { continue };
        assert!(serde_json::from_str::<&RawValue>(parsed.json()).is_ok());
        if let Some(found) = parsed.at(&Path::parse(&text)) {
            assert!(serde_json::from_str::<&RawValue>(found).is_ok());
        }
        drop(path_value("column", (&text, None, true), &parsed));
    }
    let headers = headers([(&*text, body)]);
    if let Ok(mapping) = serde_json::from_slice::<Mapping>(body) {
        let request = MappingRequest {
            body,
            content_type: Some(&text),
            headers: &headers,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            received_at: 0,
        };
        let id = RowId { number: 1, unique: RowId::unique(&[0; 16], 1, 0, 1) };
        assert_eq!(row(&mapping, &request, &[], id).len(), mapping.columns.len());
        assert_eq!(serde_json::from_str::<Mapping>(&serde_json::to_string(&mapping).unwrap()).unwrap(), mapping);
    }
});
