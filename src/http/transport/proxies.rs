//! The client address behind a proxy. Only the proxies named in the configuration are trusted. They send the address
//! in a PROXY header at the start of the connection ([`header`]), or in `X-Forwarded-For` or `X-Real-IP` with each
//! request.

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use ppp::{v1, v2};
use std::net::{IpAddr, SocketAddr};

/// The longest version 1 header, including its line end.
const V1_BYTES_MAX: usize = 107;
const V1_PREFIX: &[u8] = b"PROXY ";
/// The fixed part of a version 2 header: signature, version, family and length.
const V2_FIXED_BYTES: usize = 16;
/// The longest version 2 header that is accepted: the addresses, and room for the extensions that proxies add.
const V2_BYTES_MAX: usize = 4096;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The proxies of a listener.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Their addresses.
    pub trusted: Vec<IpNet>,
    /// Whether their connections start with a PROXY header.
    pub protocol: bool,
}

impl Proxies {
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Returns the client of a request that came through a trusted proxy: the last address in `X-Forwarded-For` that is
    /// not itself a trusted proxy. Addresses before it may be forged by the client. Without that header, it is the
    /// address in `X-Real-IP`. That comes second, since a proxy that sets `X-Forwarded-For` may pass on the client's
    /// own `X-Real-IP`.
    pub fn forwarded_for(&self, headers: &HeaderMap, proxy: SocketAddr) -> SocketAddr {
        if !headers.contains_key(&FORWARDED_FOR) {
            let told = headers.get_all(&REAL_IP).iter().next_back().and_then(|field| field.to_str().ok());
            return told.and_then(|told| address(told.trim())).unwrap_or(proxy);
        }
        let mut client = proxy;
        let mut fields = headers.get_all(&FORWARDED_FOR).iter().collect::<Vec<_>>();
        while let Some(field) = fields.pop() {
            let Ok(field) = field.to_str() else { return client };
            for hop in field.rsplit(',') {
                let Some(address) = address(hop.trim()) else { return client };
                client = address;
                if !self.trusts(address.ip()) {
                    return client;
                }
            }
        }
        client
    }
}

/// Parses an address as proxies write it: plain, in brackets, or with a port.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse().map(|ip| SocketAddr::new(ip, 0));
    alone.or_else(|_| text.parse()).ok().map(canonical)
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The result of parsing the first bytes of a connection that must start with a PROXY header.
#[derive(Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// More bytes are needed.
    Partial,
    /// The length of the header, and the client address. `None` if the proxy opened the connection for itself.
    Whole(usize, Option<SocketAddr>),
    Bad(&'static str),
}

/// Returns whether these bytes start a PROXY header.
pub(super) fn is_header(first: &[u8]) -> bool {
    first.starts_with(V1_PREFIX) || first.starts_with(v2::PROTOCOL_PREFIX)
}

pub fn header(first: &[u8]) -> ProxyHeader {
    let begins = |prefix: &[u8]| first.starts_with(prefix) || prefix.starts_with(first);
    if begins(v2::PROTOCOL_PREFIX) {
        return version_2(first);
    }
    if !begins(V1_PREFIX) {
        return ProxyHeader::Bad("a connection from this proxy must start with a PROXY header");
    }
    let line = first.get(..V1_BYTES_MAX).unwrap_or(first);
    match memchr::memmem::find(line, b"\r\n") {
        Some(end) => version_1(&first[..end + 2]),
        None if first.len() < V1_BYTES_MAX => ProxyHeader::Partial,
        None => ProxyHeader::Bad("the PROXY header has no line end"),
    }
}

fn version_1(line: &[u8]) -> ProxyHeader {
    let client = match v1::Header::try_from(line) {
        Ok(header) => match header.addresses {
            v1::Addresses::Tcp4(v1::IPv4 { source_address, source_port, .. }) => {
                Some((source_address.into(), source_port))
            }
            v1::Addresses::Tcp6(v1::IPv6 { source_address, source_port, .. }) => {
                Some((source_address.into(), source_port))
            }
            v1::Addresses::Unknown => None,
        },
        Err(_) => return ProxyHeader::Bad("the PROXY header is malformed"),
    };
    ProxyHeader::Whole(line.len(), client.map(|(ip, port)| canonical(SocketAddr::new(ip, port))))
}

fn version_2(first: &[u8]) -> ProxyHeader {
    let Some(&[high, low]) = first.get(V2_FIXED_BYTES - 2..V2_FIXED_BYTES) else {
        return ProxyHeader::Partial;
    };
    let len = V2_FIXED_BYTES + 256 * usize::from(high) + usize::from(low);
    if len > V2_BYTES_MAX {
        return ProxyHeader::Bad("the PROXY header is too long");
    }
    let Some(whole) = first.get(..len) else { return ProxyHeader::Partial };
    let Ok(header) = v2::Header::try_from(whole) else {
        return ProxyHeader::Bad("the PROXY header is malformed");
    };
    // With LOCAL the addresses are meaningless: it is a health check by the proxy.
    let client = match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(v2::IPv4 { source_address, source_port, .. })) => {
            Some((source_address.into(), source_port))
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(v2::IPv6 { source_address, source_port, .. })) => {
            Some((source_address.into(), source_port))
        }
        _ => None,
    };
    ProxyHeader::Whole(len, client.map(|(ip, port)| canonical(SocketAddr::new(ip, port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        Proxies { trusted: trusted.to_vec(), protocol: false }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_clients() {
        let proxy: SocketAddr = "10.0.0.1:5000".parse().unwrap();
        let cases: [(&[&str], &str); 15] = [
            (&[], "10.0.0.1:5000"),
            (&[""], "10.0.0.1:5000"),
            (&["192.0.2.7"], "192.0.2.7:0"),
            // The client may have forged everything before it.
            (&["1.1.1.1, 192.0.2.7"], "192.0.2.7:0"),
            (&["1.1.1.1", "192.0.2.7"], "192.0.2.7:0"),
            (&["192.0.2.7, 10.1.2.3"], "192.0.2.7:0"),
            (&["192.0.2.7", "10.1.2.3 , fd00::1"], "192.0.2.7:0"),
            (&["10.7.7.7, 10.1.2.3"], "10.7.7.7:0"),
            (&["192.0.2.7:4711"], "192.0.2.7:4711"),
            (&["2001:db8::7"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]:4711"], "[2001:db8::7]:4711"),
            (&["::ffff:192.0.2.7"], "192.0.2.7:0"),
            (&["1.1.1.1, unknown"], "10.0.0.1:5000"),
            (&["1.1.1.1, unknown, 10.9.9.9"], "10.9.9.9:0"),
        ];
        for (fields, client) in cases {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(&FORWARDED_FOR, field.parse().unwrap());
            }
            assert_eq!(proxies().forwarded_for(&headers, proxy), client.parse().unwrap(), "{fields:?}");
        }
    }

    #[test]
    fn what_a_proxy_calls_the_real_address_counts_without_the_other_header() {
        let proxy: SocketAddr = "10.0.0.1:5000".parse().unwrap();
        let cases: [(&[(&HeaderName, &str)], &str); 5] = [
            (&[(&REAL_IP, "192.0.2.7")], "192.0.2.7:0"),
            // The last one was set by the proxy.
            (&[(&REAL_IP, "1.1.1.1"), (&REAL_IP, "[2001:db8::7]:4711")], "[2001:db8::7]:4711"),
            (&[(&REAL_IP, "somebody")], "10.0.0.1:5000"),
            (&[(&REAL_IP, "1.1.1.1"), (&FORWARDED_FOR, "192.0.2.7")], "192.0.2.7:0"),
            (&[(&REAL_IP, "1.1.1.1"), (&FORWARDED_FOR, "unknown")], "10.0.0.1:5000"),
        ];
        for (fields, client) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(proxies().forwarded_for(&headers, proxy), client.parse().unwrap(), "{fields:?}");
        }
    }

    fn of_version_2(command: u8, family: u8, addresses: &[u8], extra: usize) -> Vec<u8> {
        let [low, high] = u16::try_from(addresses.len() + extra).unwrap().to_le_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family, high, low], addresses, &vec![0; extra]].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80];

    #[test]
    fn headers_of_both_versions_name_the_client() {
        let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let mapped = [[0; 10].as_slice(), &[0xff, 0xff, 192, 0, 2, 7], &[0; 16], &IPV4[8..]].concat();
        let cases: [(Vec<u8>, Option<SocketAddr>); 9] = [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec(), Some(client)),
            (b"PROXY TCP6 ::ffff:192.0.2.7 fd00::1 4711 80\r\n".to_vec(), Some(client)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n".to_vec(), None),
            (of_version_2(0x21, 0x11, &IPV4, 0), Some(client)),
            (of_version_2(0x21, 0x11, &IPV4, 1000), Some(client)),
            (of_version_2(0x21, 0x21, &mapped, 0), Some(client)),
            (of_version_2(0x20, 0x11, &IPV4, 0), None),
            (of_version_2(0x21, 0x00, &[], 0), None),
        ];
        for (bytes, client) in cases {
            for len in 0..bytes.len() {
                assert_eq!(header(&bytes[..len]), ProxyHeader::Partial, "{len} of {bytes:?}");
            }
            let with_more = [&bytes[..], b"POST / HTTP/1.1\r\n"].concat();
            assert_eq!(header(&with_more), ProxyHeader::Whole(bytes.len(), client), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 96]].concat();
        let cases: [&[u8]; 10] = [
            b"POST / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"\x16\x03\x01",
            &long,
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
            b"PROXY TCP4 192.0.2.300 10.0.0.1 4711 80\r\n",
            b"PROXY TCP5 192.0.2.7 10.0.0.1 4711 80\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 65536\r\n",
            // Version 3, and addresses shorter than their family.
            &of_version_2(0x31, 0x11, &IPV4, 0),
            &of_version_2(0x21, 0x21, &IPV4, 0),
        ];
        for bytes in cases {
            assert!(matches!(header(bytes), ProxyHeader::Bad(_)), "{bytes:?}");
        }
        // The length field alone shows that it is too long.
        let huge = of_version_2(0x21, 0x11, &IPV4, 60_000);
        assert!(matches!(header(&huge[..V2_FIXED_BYTES]), ProxyHeader::Bad(_)));
    }
}
