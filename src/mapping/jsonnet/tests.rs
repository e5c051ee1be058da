//! Tests of templates, as a worker evaluates them.

use super::*;
use std::net::{IpAddr, Ipv4Addr};

const JSON: &str = "application/json";

/// Evaluates a template for a request.
fn evaluate_as(template: &str, body: &str, content_type: &str, raw: bool) -> Result<String, TemplateError> {
    let arena = Arena::new();
    let mut engine = Engine::new(&arena);
    let template = engine.compile(template).map_err(TemplateError::Template)?;
    let headers = [("Accept", "a/b"), ("User-Agent", "test"), ("X-É", "ü")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let request = MappingRequest {
        body: body.as_bytes(),
        content_type: Some(content_type).filter(|content_type| !content_type.is_empty()),
        headers: &headers,
        ip: IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)),
        received_at: 1_672_646_584_005_999,
    };
    engine.evaluate(&template, &mut natives(&request), raw)
}

fn evaluate(template: &str) -> Result<String, TemplateError> {
    let body =
        r#"{"a":{"b":[10,{"c":"x y"}]},"n":null,"t":true,"num":1.50,"big":12345678901234567890,"é":"ü"}"#;
    evaluate_as(template, body, JSON, false)
}

fn fails(template: &str, expected: &str) {
    assert_eq!(evaluate(template), Err(TemplateError::Template(expected.to_owned())), "{template}");
}

#[test]
fn templates_ask_for_everything_of_a_request() {
    for (template, expected) in [
        ("Ip()", r#""1.2.3.4""#),
        ("Now()", r#""2023-01-02T08:03:04.005Z""#),
        ("Now('%Y-%m-%d')", r#""2023-01-02""#),
        ("Now('%d/%b/%Y:%H:%M:%S %f %%f %j')", r#""02/Jan/2023:08:03:04 005 %f 002""#),
        ("Body('a.b[1].c')", r#""x y""#),
        ("Body('a.b[0]') + 1", "11"),
        ("Body(path='a')", r#"{"b":[10,{"c":"x y"}]}"#),
        ("Body('n')", "null"),
        ("Body('missing', null)", "null"),
        ("Body('missing', {x: [1]})", r#"{"x":[1]}"#),
        ("Body('n', 1)", "null"),
        ("Body().t", "true"),
        ("Body()['num']", "1.5"),
        ("Body().big", "12345678901234567000"),
        ("std.length(BodyStr())", "92"),
        ("Header('accept')", r#""a/b""#),
        ("Header('USER-AGENT', 'none')", r#""test""#),
        ("Header('x', 'none')", r#""none""#),
        ("Header()", r#"{"Accept":"a/b","User-Agent":"test","X-É":"ü"}"#),
        ("HeaderStr()", r#""Accept: a/b\nUser-Agent: test\nX-É: ü\n""#),
        ("std.join(':', ['val1', 'val2'])", r#""val1:val2""#),
        ("local f(x) = x * 2; { b: f(2), a: [1, 'ü<&>'], h:: 0 }", r#"{"a":[1,"ü<&>"],"b":4}"#),
        ("{ local x = Body('a'), y: x.b[0] } + { z: super.y }", r#"{"y":10,"z":10}"#),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("1e15", "1000000000000000"),
        ("'\\u0001\\\"\\\\\\n\\u2028'", "\"\\u0001\\\"\\\\\\n\u{2028}\""),
        ("// a comment\n1 // and another", "1"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("std.native('Ip')()", r#""1.2.3.4""#),
    ] {
        assert_eq!(evaluate(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn failing_functions_say_what_is_missing() {
    fails("Body('a.x')", "path \"a.x\" not found in the body");
    fails("Body('a.b[2]')", "path \"a.b[2]\" not found in the body");
    fails("Header('X-Header-3')", "header \"X-Header-3\" not found");
    fails("Body(1)", "\"path\" must be a string");
    assert!(
        matches!(evaluate("Now('%!')"), Err(TemplateError::Template(message)) if message.starts_with("time format"))
    );
    let text = |template| evaluate_as(template, "{}", "text/plain", false);
    assert_eq!(text("Body('a', 1)"), Err(TemplateError::ContentType("text/plain".to_owned())));
    assert_eq!(text("BodyStr()"), Ok("\"{}\"".to_owned()), "needs nothing parsed");
    let broken = evaluate_as("Body()", "{\"a\":", JSON, false);
    assert_eq!(broken, Err(TemplateError::Body("cannot parse request body: expected a value".to_owned())));
    let huge = evaluate_as("Body('a')", "{\"a\":1e999}", JSON, false);
    assert_eq!(
        huge,
        Err(TemplateError::Body("cannot parse request body: number 1e999 is too large".to_owned()))
    );
}

#[test]
fn forms_have_fields_as_json_has() {
    let form = |template| evaluate_as(template, "a=1&b=2&b=3", "application/x-www-form-urlencoded", false);
    assert_eq!(form("Body()").as_deref(), Ok(r#"{"a":"1","b":["2","3"]}"#));
    assert_eq!(form("Body('b[1]')").as_deref(), Ok("\"3\""));
}

#[test]
fn raw_strings_lose_their_quotes_and_nothing_else_does() {
    assert_eq!(evaluate_as("'a\"b'", "", "", true).as_deref(), Ok("a\"b"));
    assert_eq!(evaluate_as("['a']", "", "", true).as_deref(), Ok(r#"["a"]"#));
    assert_eq!(evaluate_as("1", "", "", true).as_deref(), Ok("1"));
}

#[test]
fn what_does_not_compile_is_told_with_its_place_in_the_text() {
    fails("invalid", "1:1-8 Unknown variable: invalid");
    fails("  Body('a') +\n  foo", "2:3-6 Unknown variable: foo");
    fails("[1, Bodi('a')]", "1:5-9 Unknown variable: Bodi");
    fails("'é' + x", "1:7-8 Unknown variable: x");
    fails("1 +", "1:4 Unexpected end of the template");
    fails("", "1:1 Unexpected end of the template");
    fails("{a: 1", "1:6 Unexpected end of the template");
    fails("1) + (2", "1:2-3 Unexpected: )");
    fails("'abc", "1:1-5 Unterminated string");
    fails("01", "1:1-2 Invalid number");
    fails("self.a", "1:1-5 Can't use self outside of an object");
    fails("{a: 1, a: 2}", "1:8-9 Duplicate field: a");
    fails("\u{7f}", "1:1-2 Unexpected character '\\u{7f}'");
}

#[test]
fn imports_are_refused_before_there_is_a_request() {
    fails("import 'x'", "1:1-7 Imports are not allowed");
    fails("{ a: importstr '/etc/passwd' }", "1:6-15 Imports are not allowed");
    fails("local f() = importbin '/etc/passwd'; 1", "1:13-22 Imports are not allowed");
    assert_eq!(evaluate("'import x'").as_deref(), Ok("\"import x\""));
}

#[test]
fn errors_of_a_template_are_told() {
    fails("error 'too bad'", "too bad");
    fails("assert 1 > 2 : 'no'; 1", "no");
    fails("assert 1 > 2; 1", "1:1-13 assertion failed");
    fails("1 / 0", "1:1-6 division by zero");
    fails("Body('a').x", "1:1-12 field does not exist: x");
    fails("[1][3]", "1:1-7 index 3 out of bounds, not within [0, 1)");
    fails("1 - 'a'", "1:1-8 unexpected operand types: number and string");
    fails("1e308 * 10", "1:1-11 number overflow");
    fails("std.log(-1)", "1:1-12 not a number");
    fails("function(x) x", "couldn't manifest function as JSON");
    fails("std.extVar('x')", "1:1-16 undefined external variable: x");
    fails("local f(x) = x; f()", "1:17-20 arguments do not match the function's parameters");
    fails(&format!("error '{}'", "x".repeat(1000)), &format!("{}…", "x".repeat(200)));
}

#[test]
fn recursion_without_end_is_stopped() {
    fails("local f(x) = f(x + 1) + 1; f(0)", "max stack frames exceeded");
    fails("local x = x; x", "1:11-12 infinite recursion");
    fails("local a = [a]; a", "max stack frames exceeded");
    fails("{ a: self }", "max stack frames exceeded");
    fails("local f(x) = [f(x)]; f(0)", "max stack frames exceeded");
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(evaluate(&deep(400)), Ok(deep(400)));
    fails(&deep(2048), "max stack frames exceeded");
}

#[test]
fn values_over_one_mebibyte_are_refused() {
    assert_eq!(evaluate("std.repeat('x', 2000000)"), Err(TemplateError::TooLarge));
    assert_eq!(evaluate("std.repeat('x', 1000000)").map(|json| json.len()), Ok(1_000_002));
}

#[test]
fn one_engine_compiles_and_evaluates_many_times() {
    let arena = Arena::new();
    let mut engine = Engine::new(&arena);
    let template = engine.compile("Body('a') + Body('a')").unwrap();
    let failing = engine.compile("Body('b')").unwrap();
    for n in 0..1000 {
        let body = format!("{{\"a\":{n}}}");
        let request = MappingRequest {
            body: body.as_bytes(),
            content_type: Some(JSON),
            headers: &[],
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            received_at: 0,
        };
        let mut natives = natives(&request);
        assert_eq!(engine.evaluate(&template, &mut natives, false), Ok((2 * n).to_string()));
        assert!(engine.evaluate(&failing, &mut natives, false).is_err());
    }
}
