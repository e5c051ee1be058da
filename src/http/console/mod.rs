//! The console: a web page for operators, served from static files in the binary. It uses the admin API and can do
//! nothing that the API cannot. It sets values as text, never as markup.

/// A file of the console.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            path: concat!("/console/", $name),
            content_type: $content_type,
            body: include_str!(concat!("assets/", $name)),
        }
    };
}

const PAGE: Asset = Asset { path: "/", ..asset!("index.html", "text/html; charset=utf-8") };

const ASSETS: [Asset; 14] = [
    PAGE,
    asset!("console.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("console.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("overview.js", SCRIPT),
    asset!("streams.js", SCRIPT),
    asset!("stream.js", SCRIPT),
    asset!("proposals.js", SCRIPT),
    asset!("types.js", SCRIPT),
    asset!("new_stream.js", SCRIPT),
    asset!("file.js", SCRIPT),
    asset!("tokens.js", SCRIPT),
];

/// Forbids external and inline content and framing, but allows sending records to the ingest listener.
pub fn content_security_policy(ingest_url: &str) -> String {
    format!(
        "default-src 'self'; connect-src 'self' {ingest_url}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file that is referred to is served, and every file is referred to.
    #[test]
    fn every_file_is_found_by_those_that_ask_for_it() {
        let mut named = vec![PAGE.path.to_owned()];
        for asset in ASSETS {
            for part in asset.body.split('"').skip(1).step_by(2) {
                if let Some(name) = part.strip_prefix("./") {
                    named.push(format!("/console/{name}"));
                } else if part.starts_with("/console/") {
                    named.push(part.to_owned());
                }
            }
        }
        for name in &named {
            assert!(find(name).is_some(), "{name} is referred to but not served");
        }
        for asset in ASSETS {
            assert!(named.iter().any(|name| name == asset.path), "no file refers to {}", asset.path);
        }
    }
}
