//! Sends single requests to the daemon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The value of a metric without labels.
pub fn metric(admin: SocketAddr, name: &str) -> f64 {
    let text = request(admin, "GET /metrics", "");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

pub fn request(address: SocketAddr, what: &str, body: &str) -> String {
    request_with(address, what, "", body)
}

/// Sends a request with a token.
pub fn request_as(address: SocketAddr, token: &str, what: &str, body: &str) -> String {
    request_with(address, what, &format!("authorization: Bearer {token}\r\n"), body)
}

/// Creates a token with these properties.
pub fn new_token(admin: SocketAddr, admin_token: &str, about: &serde_json::Value) -> String {
    let answer = request_as(admin, admin_token, "POST /admin/v1/tokens", &about.to_string());
    let body = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
    let token = body.as_ref().and_then(|body: &serde_json::Value| body["token"].as_str());
    token.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Sends a request with these header lines.
pub fn request_with(address: SocketAddr, what: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .expect("a request sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Waits until everything accepted is published.
pub fn publish(admin: SocketAddr) {
    // Each call gives up after a minute; a long backlog takes several.
    for _ in 0..60 {
        if request(admin, "POST /admin/v1/publish", "").starts_with("HTTP/1.1 200") {
            return;
        }
    }
    panic!("not everything was published");
}

pub fn published_rows(admin: SocketAddr) -> f64 {
    metric(admin, "forebay_compactor_published_rows_total")
}
