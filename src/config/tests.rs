//! The sources of settings, their order, and invalid settings.

use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forebay.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), environment, flags).map_err(|error| error.to_string())
}

#[test]
fn the_documented_defaults_are_valid_and_complete() {
    let config = load("", &[], &Flags::default()).unwrap();
    assert_eq!(config, load(DEFAULTS, &[], &Flags::default()).unwrap());
    assert_eq!(config.wal().segment_bytes, 64 << 20);
}

#[test]
fn later_sources_win() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\ndata_dir = \"a\"\n[wal]\nmax_bytes = \"1GiB\"";
    let environment = [
        ("FOREBAY_SERVER__ADMIN_LISTEN", "127.0.0.1:3"),
        ("FOREBAY_SERVER__DATA_DIR", "b"),
        ("FOREBAY_LIMITS__COLUMNS_MAX", "7"),
        ("FOREBAY_DESTINATION__S3__ALLOW_HTTP", "true"),
        ("FOREBAY_COMPACTOR__SYSTEM_COLUMNS", "[\"_lsn\"]"),
        ("FOREBAY_NOT_A_SETTING", "x"),
        ("HOME", "/root"),
    ];
    let flags = Flags { data_dir: Some("c".into()), ..Flags::default() };
    let config = load(file, &environment, &flags).unwrap();
    assert_eq!(config.server.listen.port(), 1);
    assert_eq!(config.server.admin_listen.port(), 3);
    assert_eq!(config.server.data_dir, std::path::absolute("c").unwrap());
    assert_eq!(config.limits.columns_max, 7);
    assert!(config.destination.s3.allow_http);
    assert_eq!(config.compactor.system_columns, ["_lsn"]);
    assert_eq!(config.wal.max_bytes, ByteSize(1 << 30));
}

#[test]
fn dev_changes_defaults_only() {
    let dev = Flags { dev: true, ..Flags::default() };
    let config = load("", &[], &dev).unwrap();
    assert_eq!(config.compactor.max_idle.0, Some(Duration::from_secs(1)));
    let config = load("[compactor]\nmax_idle = \"off\"", &[], &dev).unwrap();
    assert_eq!(config.compactor.max_idle.0, None);
    let error = load("[server]\nlisten = \"0.0.0.0:7171\"", &[], &dev).unwrap_err();
    assert!(error.contains("loopback"), "{error}");
}

#[test]
fn errors_name_the_source_the_key_and_what_is_allowed() {
    let check = |file: &str, environment: &[(&str, &str)], parts: &[&str]| {
        let error = load(file, environment, &Flags::default()).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    };
    check("[server]\nlitsen = \"x\"", &[], &["forebay.toml", "server", "litsen", "listen", "admin_listen"]);
    check("[sever]", &[], &["forebay.toml", "sever", "server"]);
    check("[wal]\nmax_bytes = \"lots\"", &[], &["forebay.toml", "wal.max_bytes", "64MiB", "lots"]);
    check("[wal]\nmax_bytes = 5", &[], &["forebay.toml", "wal.max_bytes", "string"]);
    check("[wal", &[], &["forebay.toml", "line 1"]);
    check("[telemetry]\nlog_format = \"xml\"", &[], &["telemetry.log_format", "xml", "auto", "text", "json"]);
    check("", &[("FOREBAY_WAL__MAX_BITES", "1GiB")], &["FOREBAY_WAL__MAX_BITES", "max_bytes"]);
    check("", &[("FOREBAY_SERVER__WORKERS", "many")], &["FOREBAY_SERVER__WORKERS", "many"]);
    check("[destination]\nurl = \"ftp://x\"", &[], &["destination.url", "ftp", "s3://"]);
    check("[limits]\ndecoded_max = \"64MiB\"", &[], &["wal.segment_bytes", "limits.decoded_max"]);
    check("[compactor]\nsystem_columns = [\"lsn\"]", &[], &["system_columns", "\"lsn\"", "_received_at"]);
    let missing = Config::load(Some(Path::new("/no/such/file")), std::iter::empty(), &Flags::default());
    assert!(missing.unwrap_err().to_string().contains("/no/such/file"));
}

#[test]
fn destinations() {
    let destination = |url: &str| {
        let config = load(&format!("[destination]\nurl = \"{url}\""), &[], &Flags::default()).unwrap();
        config.destination().unwrap()
    };
    let default = std::path::absolute("forebay-data/tables").unwrap();
    assert!(matches!(destination(""), Destination::Directory(path) if path == default));
    assert!(
        matches!(destination("file:///srv/t"), Destination::Directory(path) if path == Path::new("/srv/t"))
    );
    let Destination::S3 { bucket, prefix, .. } = destination("s3://b/p/q/") else { panic!("S3 expected") };
    assert_eq!((bucket.as_str(), prefix.as_str()), ("b", "p/q"));
}
