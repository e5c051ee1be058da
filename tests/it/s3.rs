//! Tables in a bucket: published exactly once whatever the server does, and without blocking requests.

use crate::bucket::{self, BUCKET, Bucket, Fault, KEY, SECRET};
use crate::support::{Daemon, Setup, eventually, fields, parquet_files, read_parquet, read_table, request};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

/// The numbers in the rows of a table in the bucket, in order.
fn numbers(bucket: &Bucket, prefix: &str, table: &str) -> Vec<u64> {
    let rows = read_table(&bucket.dir(prefix).join(table));
    rows.iter().map(|row| row["n"].as_u64().unwrap()).collect()
}

fn publish(daemon: &Daemon) {
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
}

/// Checks that hold for every server: rows are published, can be read back, and the preview finds them.
fn check_server(endpoint: &str, bucket: &str, key: &str, secret: &str) {
    let prefix = format!("it/{}", uuid::Uuid::new_v4().simple());
    let config = bucket::config(endpoint, bucket, key, secret, &prefix);
    let daemon = Setup::dev(&config).start();
    let mut objects = Vec::new();
    for n in 0..3 {
        let response = daemon.post("name=visits&wait=table", format!("{{\"n\":{n},\"city\":\"Chicago\"}}"));
        assert_eq!(response.status, 200, "{}", response.text());
        objects.push(response.json()["files"][0].as_str().unwrap().to_owned());
    }
    let records = daemon.get("/admin/v1/streams/visits/records?limit=2").json();
    assert_eq!(records["records"].as_array().unwrap().len(), 2, "{records}");
    let store = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(bucket)
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for object in &objects {
        let path = format!("{prefix}/{object}").into();
        let bytes = runtime.block_on(async { store.get(&path).await.unwrap().bytes().await.unwrap() });
        let file = dir.path().join("object.parquet");
        std::fs::write(&file, &bytes).unwrap();
        rows.extend(read_parquet(&file));
        // An existing object cannot be overwritten.
        let again = object_store::PutOptions { mode: object_store::PutMode::Create, ..Default::default() };
        let refused = runtime.block_on(store.put_opts(&path, "other".into(), again));
        assert!(matches!(refused, Err(object_store::Error::AlreadyExists { .. })), "{refused:?}");
    }
    let found: Vec<Value> = rows.iter().map(fields).collect();
    let expected: Vec<Value> = (0..3).map(|n| json!({"n": n, "city": "Chicago"})).collect();
    assert_eq!(found, expected);
    // A replay replaces the objects: they now have the column that was added since.
    let response = daemon.post("name=visits&wait=table", "{\"n\":3,\"city\":\"Chicago\",\"late\":true}");
    assert_eq!(response.status, 200, "{}", response.text());
    let asked = json!({"stream": "visits", "from": "2020-01-01"}).to_string();
    let asked = request(daemon.admin, "POST", "/admin/v1/replay", &[], asked.as_bytes()).json();
    let replay = eventually("the replay's end", || {
        let replay = daemon.get(&format!("/admin/v1/replay/{}", asked["id"])).json();
        (replay["state"] == "done").then_some(replay)
    });
    assert_eq!((&replay["rows"]["done"], &replay["error"]), (&json!(4), &Value::Null), "{replay}");
    let path = format!("{prefix}/{}", objects[0]).into();
    let bytes = runtime.block_on(async { store.get(&path).await.unwrap().bytes().await.unwrap() });
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    assert!(reader.schema().column_with_name("late").is_some(), "{:?}", reader.schema());
}

#[test]
fn rows_are_published_to_a_bucket() {
    let bucket = Bucket::start();
    check_server(&format!("http://{}", bucket.address), BUCKET, KEY, SECRET);
}

/// The same with a real S3 server, which `.ci/s3-server` starts and announces in the environment.
#[test]
fn rows_are_published_to_a_real_server() {
    let setting = |name: &str| {
        let name = format!("FOREBAY_TEST_S3_{name}");
        std::env::vars().find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let Some(endpoint) = setting("ENDPOINT") else {
        println!("FOREBAY_TEST_S3_ENDPOINT is not set: only the server within this process was tested");
        return;
    };
    let [bucket, key, secret] = ["BUCKET", "KEY", "SECRET"].map(|name| setting(name).unwrap());
    check_server(&endpoint, &bucket, &key, &secret);
}

#[test]
fn a_failing_server_is_retried_and_blocks_nobody() {
    for fault in [Fault::Down, Fault::Status(503), Fault::Status(403), Fault::Stalled] {
        let bucket = Bucket::start();
        bucket.set(fault);
        let home = tempfile::tempdir().unwrap();
        let setup = || Setup::dev(&format!("[compactor]\nmax_idle = \"50ms\"\n{}", bucket.config("p")));
        let mut daemon = setup().start_at(home.path());
        for n in 0..3 {
            assert_eq!(daemon.post("name=a&wait=true", format!("{{\"n\":{n}}}")).status, 200, "{fault:?}");
            assert_eq!(daemon.post("name=b", format!("{{\"n\":{n}}}")).status, 202);
        }
        // The files are staged, and the operator sees why.
        let staged = eventually("staged files", || {
            let staged = daemon.get("/admin/v1/staged").json()["staged"].as_array().unwrap().clone();
            let tried = fault == Fault::Stalled || staged.iter().any(|file| file["last_error"].is_string());
            (staged.len() >= 2 && tried).then_some(staged)
        });
        assert!(staged.iter().all(|file| file["state"] == "staged"), "{staged:?}");
        assert!(parquet_files(&bucket.dir("p")).is_empty());
        assert_eq!(daemon.get("/readyz").status, 200, "requests must still be accepted");
        bucket.set(Fault::None);
        if fault == Fault::Stalled {
            // A transfer without an answer is aborted only after minutes; a restart is quicker.
            daemon.kill();
            daemon = setup().start_at(home.path());
        }
        publish(&daemon);
        assert_eq!(numbers(&bucket, "p", "a"), [0, 1, 2], "{fault:?}");
        assert_eq!(numbers(&bucket, "p", "b"), [0, 1, 2], "{fault:?}");
        assert_eq!(daemon.get("/admin/v1/staged").json()["staged"], json!([]));
    }
}

#[test]
fn a_file_whose_answer_was_lost_is_published_once() {
    let bucket = Bucket::start();
    let daemon = Setup::dev(&bucket.config("")).start();
    bucket.set(Fault::LostAnswer);
    assert_eq!(daemon.post("name=a&wait=true", r#"{"n":1}"#).status, 200);
    bucket.wait_for_puts(2);
    bucket.set(Fault::None);
    publish(&daemon);
    assert_eq!(numbers(&bucket, "", "a"), [1]);
    assert_eq!(parquet_files(&bucket.dir("")).len(), 1);
}

#[test]
fn a_kill_after_the_put_repeats_the_same_put() {
    let bucket = Bucket::start();
    let home = tempfile::tempdir().unwrap();
    let config = bucket.config("");
    let daemon = Setup::dev(&format!("[compactor]\nmax_idle = \"20ms\"\n{config}")).start_at(home.path());
    bucket.set(Fault::LostAnswer);
    assert_eq!(daemon.post("name=a&wait=true", r#"{"n":1}"#).status, 200);
    eventually("the object", || (!parquet_files(&bucket.dir("")).is_empty()).then_some(()));
    daemon.kill();
    bucket.set(Fault::None);
    let daemon = Setup::dev(&config).start_at(home.path());
    publish(&daemon);
    assert_eq!(numbers(&bucket, "", "a"), [1]);
    assert_eq!(parquet_files(&bucket.dir("")).len(), 1);
}

#[test]
fn a_foreign_object_is_not_overwritten_and_the_file_stays_staged() {
    let bucket = Bucket::start();
    let daemon = Setup::dev(&format!("[compactor]\nmax_idle = \"20ms\"\n{}", bucket.config(""))).start();
    bucket.set(Fault::Status(503));
    assert_eq!(daemon.post("name=a&wait=true", r#"{"n":1}"#).status, 200);
    let staged = eventually("a staged file", || {
        let staged = daemon.get("/admin/v1/staged").json()["staged"][0].clone();
        staged["object"].as_str().map(str::to_owned)
    });
    let squatter = bucket.dir("").join(&staged);
    std::fs::create_dir_all(squatter.parent().unwrap()).unwrap();
    std::fs::write(&squatter, "mine").unwrap();
    bucket.set(Fault::None);
    eventually("a conflict", || {
        let staged = daemon.get("/admin/v1/staged").json()["staged"][0].clone();
        staged["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("already exists with different content"))
            .then_some(())
    });
    assert_eq!(std::fs::read_to_string(&squatter).unwrap(), "mine");
    std::fs::remove_file(&squatter).unwrap();
    publish(&daemon);
    assert_eq!(numbers(&bucket, "", "a"), [1]);
}
