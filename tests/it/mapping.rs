//! Templates in worker processes: their results, and hostile templates that must not affect others.

use forebay::mapping::{CheckError, Evaluator, EvaluatorSettings, Mapping, MappingFailure, MappingRequest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FOREBAY: &str = env!("CARGO_BIN_EXE_forebay");

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn settings() -> EvaluatorSettings {
    EvaluatorSettings { program: FOREBAY.into(), workers: 2, memory_max: 64 << 20, deadline: LONG }
}

/// A mapping with a column for each template.
fn mapping(templates: &[&str]) -> Arc<Mapping> {
    let columns = templates.iter().enumerate().map(|(at, content)| {
        let template = serde_json::json!({"language": "jsonnet", "content": content});
        serde_json::json!({"type": "template", "name": format!("c{at}"), "template": template})
    });
    let columns: Vec<_> = columns.collect();
    Arc::new(serde_json::from_value(serde_json::json!({ "columns": columns })).unwrap())
}

fn request(body: &str) -> MappingRequest<'_> {
    MappingRequest {
        body: body.as_bytes(),
        content_type: Some("application/json"),
        headers: &[],
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: 0,
    }
}

fn evaluate(evaluator: &Evaluator, templates: &[&str], body: &str) -> Result<Vec<String>, MappingFailure> {
    let mut outcomes = evaluator.evaluate_blocking(&[mapping(templates)], &[request(body)]);
    outcomes.remove(0).remove(0)
}

fn stopped(column: &str, message: &str) -> Result<Vec<String>, MappingFailure> {
    Err(MappingFailure::Stopped { column: column.to_owned(), message: message.to_owned() })
}

#[test]
fn many_requests_under_several_mappings_are_evaluated_together() {
    let evaluator = Evaluator::new(settings());
    let evaluator = Arc::new(evaluator);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let all = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..200 {
            let evaluator = Arc::clone(&evaluator);
            tasks.spawn(async move {
                let bodies = [format!("{{\"a\":{n}}}"), "{}".to_owned()];
                let requests = bodies.each_ref().map(|body| request(body));
                let mappings =
                    [mapping(&["Body('a') * 2", "Ip()"]), mapping(&["1"]), mapping(&["[Body('a')]"])];
                (n, evaluator.evaluate(&mappings, &requests).await)
            });
        }
        tasks.join_all().await
    });
    assert_eq!(all.len(), 200);
    for (n, outcomes) in all {
        let missing = || {
            Err(MappingFailure::Column {
                column: "c0".to_owned(),
                message: "path \"a\" not found in the body".to_owned(),
            })
        };
        assert_eq!(outcomes[0], [Ok(vec![(2 * n).to_string(), "\"127.0.0.1\"".to_owned()]), missing()]);
        assert_eq!(outcomes[1], [Ok(vec!["1".to_owned()]), Ok(vec!["1".to_owned()])]);
        assert_eq!(outcomes[2], [Ok(vec![format!("[{n}]")]), missing()]);
    }
    assert!(
        (1..=2).contains(&evaluator.metrics().worker_starts.get()),
        "{}",
        evaluator.metrics().worker_starts.get()
    );
    assert_eq!(evaluator.metrics().evaluations.get(), 200 * 6);
}

#[test]
fn the_records_of_one_large_request_keep_their_order() {
    let evaluator = Evaluator::new(settings());
    let bodies: Vec<String> = (0..1000).map(|n| format!("{{\"a\":{n}}}")).collect();
    let requests: Vec<_> = bodies.iter().map(|body| request(body)).collect();
    let outcomes = evaluator.evaluate_blocking(&[mapping(&["Body('a')"])], &requests);
    let expected: Vec<_> = (0..1000).map(|n| Ok(vec![n.to_string()])).collect();
    assert_eq!(outcomes, [expected]);
}

#[test]
fn a_template_over_its_memory_limit_is_stopped() {
    let evaluator = Evaluator::new(settings());
    for template in [
        "std.length(std.repeat('x', 1073741824))",
        "local f(n) = if n == 0 then 'x' else local s = f(n - 1); s + s; std.length(f(30))",
        "std.length(std.range(1, 1e9))",
        "std.length(std.makeArray(1e9, function(x) x))",
        "std.length(std.join(',', [std.repeat('y', 1e6) for x in std.range(1, 2000)]))",
    ] {
        let outcome = evaluate(&evaluator, &["1", template, "2"], "{}");
        assert_eq!(
            outcome,
            stopped("c1", "template was stopped: it took more than 64 MiB of memory"),
            "{template}"
        );
        assert_eq!(evaluate(&evaluator, &["Body('a')"], "{\"a\":1}"), Ok(vec!["1".to_owned()]));
    }
}

#[test]
fn an_endless_template_is_stopped_without_affecting_others() {
    let evaluator = Evaluator::new(EvaluatorSettings { deadline: Duration::from_millis(700), ..settings() });
    let evaluator = Arc::new(evaluator);
    let endless = mapping(&["Body('a')", "local f(x) = f(x + 1) tailstrict; f(0)"]);
    let good = mapping(&["Body('a') + 1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let (refused, served) = runtime.block_on(async {
        let mut refused = tokio::task::JoinSet::new();
        let mut served = tokio::task::JoinSet::new();
        for n in 0..60 {
            let (evaluator, mapping) = (Arc::clone(&evaluator), if n % 20 == 7 { &endless } else { &good });
            let mappings = [Arc::clone(mapping)];
            let tasks = if n % 20 == 7 { &mut refused } else { &mut served };
            tasks.spawn(async move {
                evaluator.evaluate(&mappings, &[request("{\"a\":1}")]).await.remove(0).remove(0)
            });
        }
        (refused.join_all().await, served.join_all().await)
    });
    assert_eq!(refused.len(), 3);
    for outcome in refused {
        assert_eq!(outcome, stopped("c1", "template was stopped: it took more than 700ms"));
    }
    assert!(served.iter().all(|outcome| *outcome == Ok(vec!["2".to_owned()])), "{served:?}");
    assert!(evaluator.metrics().worker_starts.get() >= 2);
    // The template is a suspect by now, so others do not wait for it.
    let waiting = {
        let evaluator = Arc::clone(&evaluator);
        std::thread::spawn(move || evaluator.evaluate_blocking(&[endless], &[request("{\"a\":1}")]))
    };
    assert_eq!(evaluate(&evaluator, &["Body('a') + 1"], "{\"a\":1}"), Ok(vec!["2".to_owned()]));
    assert!(waiting.join().unwrap()[0][0].is_err());
}

#[test]
fn deeply_nested_templates_get_an_answer() {
    let evaluator = Evaluator::new(settings());
    let nested = |open: &str, middle: &str, close: &str| {
        let depth = (4096 - middle.len()) / (open.len() + close.len());
        format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, middle, close) in [
        ("[", "", "]"),
        ("{a:", "1", "}"),
        ("(", "1", ")"),
        ("-", "1", ""),
        ("!", "true", ""),
        ("std.type(", "1", ")"),
        ("if true then ", "1", ""),
        ("local a=1;", "a", ""),
        ("function() ", "1", ""),
        ("1+", "1", ""),
        ("[1][", "0", "]"),
        ("assert true;", "1", ""),
        ("error ", "'x'", ""),
        ("{a:1}+", "{}", ""),
        ("[x for x in ", "[]", "]"),
        ("", "a", ".a"),
        ("", "1", "{a:1}"),
        ("[[", "", ""),
    ] {
        let outcome = evaluate(&evaluator, &[&nested(open, middle, close)], "{}");
        assert!(!matches!(outcome, Err(MappingFailure::Unavailable(_))), "{open}: {outcome:?}");
        assert_eq!(evaluate(&evaluator, &["1"], "{}"), Ok(vec!["1".to_owned()]), "after {open}");
    }
}

#[test]
fn deeply_nested_and_growing_bodies_get_an_answer() {
    let evaluator = Evaluator::new(settings());
    let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(evaluate(&evaluator, &["std.length(Body('a'))"], &deep(127)), Ok(vec!["1".to_owned()]));
    assert!(matches!(evaluate(&evaluator, &["Body()"], &deep(100_000)), Err(MappingFailure::Body(_))));
    let large = format!("{{\"a\":\"{}\"}}", "é".repeat(500_000));
    assert_eq!(evaluate(&evaluator, &["std.length(Body('a'))"], &large), Ok(vec!["500000".to_owned()]));
    assert_eq!(
        evaluate(&evaluator, &["Body('a')"; 2], &large),
        Err(MappingFailure::TooLarge),
        "of the whole row"
    );
    assert_eq!(evaluate(&evaluator, &["std.repeat('x', 2e6)"], "{}"), Err(MappingFailure::TooLarge));
}

#[test]
fn a_worker_that_accumulated_memory_is_replaced() {
    let evaluator = Evaluator::new(EvaluatorSettings { workers: 1, memory_max: 16 << 20, ..settings() });
    for n in 0..12 {
        let fields = (0..20_000).map(|at| format!("\"key {n} {at} of a body\":{at}"));
        let body = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        let outcome = evaluate(&evaluator, &["std.length(Body())"], &body);
        assert_eq!(outcome, Ok(vec!["20000".to_owned()]), "{n}");
    }
    assert!(evaluator.metrics().worker_starts.get() > 1);
}

#[test]
fn mappings_are_checked_when_created() {
    let evaluator = Evaluator::new(settings());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let check = |templates: &[&str]| {
        let checked = runtime.block_on(evaluator.check(&mapping(templates)));
        checked.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(check(&["Body('a')", "local x = 1; x"]).is_empty());
    assert_eq!(
        check(&["invalid", "1", "import 'x'"]),
        [
            "column \"c0\" template is invalid: 1:1-8 Unknown variable: invalid",
            "column \"c2\" template is invalid: 1:1-7 Imports are not allowed",
        ]
    );
    let mut repeated = (*mapping(&["1", "2"])).clone();
    repeated.columns[1].name = "c0".to_owned();
    let checked = runtime.block_on(evaluator.check(&repeated));
    assert_eq!(checked, Err(vec![CheckError::RepeatedName("c0".to_owned())]));
}

#[test]
fn a_killed_worker_is_replaced() {
    // A deadline that no other test uses, to find the worker by it.
    let deadline = LONG + Duration::from_millis(1);
    let evaluator = Evaluator::new(EvaluatorSettings { workers: 1, deadline, ..settings() });
    assert_eq!(evaluate(&evaluator, &["1"], "{}"), Ok(vec!["1".to_owned()]));
    let workers = workers_with(deadline);
    assert_eq!(workers.len(), 1);
    for process in workers {
        assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
    }
    assert_eq!(evaluate(&evaluator, &["2"], "{}"), Ok(vec!["2".to_owned()]));
    assert_eq!(evaluate(&evaluator, &["3"], "{}"), Ok(vec!["3".to_owned()]));
    assert_eq!(evaluator.metrics().worker_starts.get(), 2);
}

#[test]
fn a_worker_ends_with_its_daemon() {
    let start = "exec 3<&0; \"$0\" mapping-worker --memory-max=67108864 --deadline-ms=1000 --parent=$$ <&3 & echo $!; wait";
    let mut shell = Command::new("sh")
        .args(["-c", start, FOREBAY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    let mut stdout = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let process: u32 = line.trim().parse().unwrap();
    // An empty batch. Once it is answered, the worker has asked the kernel to end it with the shell.
    stdin.write_all(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    stdout.read_exact(&mut [0; 5]).unwrap();
    assert!(is_running(process));
    let until = Instant::now() + LONG;
    shell.kill().unwrap();
    shell.wait().unwrap();
    while is_running(process) {
        assert!(Instant::now() < until, "the worker has outlived its daemon");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stdin);
    let orphan = Command::new(FOREBAY)
        .args(["mapping-worker", "--memory-max=67108864", "--deadline-ms=1000", "--parent=1"])
        .stdin(Stdio::piped())
        .status();
    assert!(orphan.unwrap().success(), "a worker whose daemon is already gone must end at once");
}

/// Worker processes of this process.
fn workers_with(deadline: Duration) -> Vec<u32> {
    let wanted =
        [format!("--parent={}", std::process::id()), format!("--deadline-ms={}", deadline.as_millis())];
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let process: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).ok()?;
        let arguments: Vec<&str> = line.split('\0').collect();
        wanted.iter().all(|wanted| arguments.contains(&wanted.as_str())).then_some(process)
    });
    processes.collect()
}

fn is_running(process: u32) -> bool {
    // A process that is gone has no file, and a zombie has ended.
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
