//! The console's files are served without a token, with headers that protect them from other sites.

use crate::support::{Setup, request};

#[test]
fn the_page_and_its_files_need_no_token() {
    let daemon = Setup::with_config("").start();
    let page = request(daemon.admin, "GET", "/", &[], b"");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains(&format!("http://{}", daemon.ingest)));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let page = page.text();
    let named: Vec<&str> = page.split('"').filter(|part| part.starts_with("/console/")).collect();
    assert!(named.len() >= 3, "{named:?}");
    for path in named {
        let file = request(daemon.admin, "GET", path, &[], b"");
        assert_eq!(file.status, 200, "{path}");
        assert!(!file.body.is_empty(), "{path}");
    }
    let refused = request(daemon.admin, "POST", "/", &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    // The data that the console shows requires the token.
    assert_eq!(request(daemon.admin, "GET", "/admin/v1/streams", &[], b"").status, 401);
}
