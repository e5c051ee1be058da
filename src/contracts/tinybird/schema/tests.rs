//! Tests of schemas: what is accepted, what is refused, and that declarations are returned verbatim.

use super::*;

fn shown(text: &str) -> String {
    let declared = parse(text, 1000).unwrap_or_else(|error| panic!("{text}: {error}"));
    let shown = declared.iter().map(|declared| {
        let shown = Shown::from_column(&declared.column, Some(&declared.clauses));
        format!("`{}` {}", declared.column.name, shown.declaration())
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn one(text: &str) -> Column {
    let mut declared = parse(text, 1000).unwrap();
    assert_eq!(declared.len(), 1, "{text}");
    declared.remove(0).column
}

#[test]
fn a_schema_is_given_back_as_it_was_written() {
    for text in [
        "`a` Int16 `json:$.a`",
        "`id` UUID `json:$.Id`, `timestamp` DateTime64(6) `json:$.Timestamp`, `value` String `json:$.Value`",
        "`a` Nullable(Int32) `json:$.o.a` DEFAULT 5 CODEC(Delta(4), LZ4)",
        "`b` LowCardinality(Nullable(String))",
        "`c` Array(Array(Int16)) `json:$.c[:]` DEFAULT []",
        "`d` Decimal(18, 2) `json:$.d`, `e` Map(String, Array(Float32)) `json:$.e`",
        "`t` DateTime64(3, 'UTC') `json:$.t` DEFAULT now64(3)",
        "`s` String `json:$.s` DEFAULT 'it''s, (a) `text`' CODEC(ZSTD(1))",
        "`f` FixedString(16), `u` UInt256, `j` JSON(max_dynamic_paths=10) `json:$.j`",
        "`x.y` Date DEFAULT toDate('2020-01-01')",
    ] {
        assert_eq!(shown(text), text);
    }
    let spaced = "a   Int16\n `json:$.a`  ,--comment, with a comma\n\tb String DEFAULT '--' -- another";
    assert_eq!(shown(spaced), "`a` Int16 `json:$.a`, `b` String DEFAULT '--'");
}

#[test]
fn what_a_declaration_means() {
    let column = one("ts DateTime64(3) `json:$.e.at` DEFAULT now()");
    assert_eq!((column.kind, column.nullable, column.epoch_digits), (ColumnType::Timestamp, false, Some(3)));
    assert_eq!(column.path, Some(vec!["e".to_owned(), "at".to_owned()]));
    assert_eq!(column.default, Some(RECEIPT_TIME.into()));
    let column = one("a Nullable(Int16) `json:$.a` DEFAULT NULL");
    assert_eq!(
        (column.kind, column.nullable, column.default, column.path),
        (ColumnType::Int16, true, None, None)
    );
    assert_eq!(one("a LowCardinality(Nullable(String))").kind, ColumnType::String);
    assert!(one("a LowCardinality(Nullable(String))").nullable);
    assert_eq!(one("a Int128").kind, ColumnType::Decimal { precision: 39, scale: 0 });
    assert_eq!(one("a DateTime").epoch_digits, Some(0));
    for (text, expected) in [
        ("Int16 DEFAULT 3", serde_json::json!(3)),
        ("Int16 DEFAULT '3'", serde_json::json!(3)),
        ("String DEFAULT '3'", serde_json::json!("3")),
        ("String DEFAULT ''", serde_json::json!("")),
        ("String DEFAULT 'a\\'b\\\\n'", serde_json::json!("a'b\\n")),
        ("Float64 DEFAULT -1.5e3", serde_json::json!(-1500.0)),
        ("Bool DEFAULT true", serde_json::json!(true)),
        ("Array(String) DEFAULT ['a', 'b']", serde_json::json!(["a", "b"])),
        ("Map(String, Int8) DEFAULT map()", serde_json::json!({})),
        ("DateTime DEFAULT toDateTime('2020-01-01 00:00:00')", serde_json::json!("2020-01-01 00:00:00")),
        ("UInt8 DEFAULT CAST(1, 'UInt8')", serde_json::json!(1)),
        ("Date DEFAULT today()", serde_json::json!(RECEIPT_TIME)),
    ] {
        assert_eq!(one(&format!("a {text}")).default, Some(expected), "{text}");
    }
    for (path, keys) in [
        ("$.a.b", vec!["a", "b"]),
        ("$.a[:]", vec!["a"]),
        ("$.['a.b'].c", vec!["a.b", "c"]),
        ("$['x y']", vec!["x y"]),
        ("$.a-b_c", vec!["a-b_c"]),
    ] {
        assert_eq!(json_path(path).unwrap(), keys, "{path}");
    }
}

#[test]
fn what_is_no_schema_is_refused_with_the_column_and_the_reason() {
    for (text, part) in [
        ("", "one column is empty"),
        ("a Int16,", "one column is empty"),
        ("a", "column 'a': it has no type"),
        ("a Int17", "column 'a': 'Int17' is not a type that can be ingested"),
        ("a int16", "'int16' is not a type"),
        ("a Enum8('x'=1)", "'Enum8' is not a type that can be ingested"),
        ("a AggregateFunction(sum, Int8)", "'AggregateFunction' is not a type"),
        ("a Tuple(Int8, Int8)", "'Tuple' is not a type"),
        ("a Int16(3)", "'Int16' takes no arguments"),
        ("a Array", "'Array' needs an argument"),
        ("a Array()", "'Array' needs an argument"),
        ("a Array(Int16", "has no closing bracket"),
        ("a Nullable(Array(Int8))", "cannot be inside Nullable"),
        ("a Nullable(LowCardinality(Nullable(String)))", "cannot be inside Nullable"),
        ("a Map(Int8, String)", "keys of a Map must be String"),
        ("a Map(String)", "a key type and a value type"),
        ("a Decimal(77, 2)", "1 to 76 digits"),
        ("a Decimal(5, 6)", "1 to 76 digits"),
        ("a Decimal(300)", "1 to 76 digits"),
        ("a FixedString(0)", "the length must be"),
        ("a FixedString(99999999999)", "the length must be"),
        ("a DateTime64(10)", "0 to 9 fractional digits"),
        ("a DateTime('Europe/Madrid')", "time zone 'Europe/Madrid'"),
        ("a Int16 MATERIALIZED b*2", "'MATERIALIZED' is not supported"),
        ("a Int16 NOT NULL", "'NOT' is not supported"),
        ("a Int16 `json:a`", "JSON path 'a'"),
        ("a Int16 `json:$`", "JSON path '$'"),
        ("a Int16 `json:$.a[:].b`", "only valid at the end"),
        ("a Int16 `json:$.a[0]`", "JSON path '$.a[0]'"),
        ("a Int16 `json:$..a`", "JSON path '$..a'"),
        ("a Int16 DEFAULT", "DEFAULT has no value"),
        ("a Int16 DEFAULT plus(13,1)", "DEFAULT plus(13,1) is not supported"),
        ("a Int16 DEFAULT 1 + 2", "'+' after the value of DEFAULT"),
        ("a Int16 DEFAULT now()", "DEFAULT now() is not supported"),
        ("a Int16 DEFAULT 1 DEFAULT 2", "DEFAULT is given twice"),
        ("a Int16 CODEC(ZSTD) CODEC(LZ4)", "CODEC is given twice"),
        ("foo^bar Float32", "'foo^bar' is not a valid column name"),
        ("`` Int8", "'' is not a valid column name"),
        ("`a Int8", "a backtick is not closed"),
    ] {
        let error = parse(text, 1000).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let nested = format!("a {}Int8{}", "Array(".repeat(100), ")".repeat(100));
    assert!(parse(&nested, 1000).unwrap_err().contains("nested deeper"));
    let many: Vec<String> = (0..10_000).map(|n| format!("c{n} Int8")).collect();
    assert_eq!(parse(&many.join(","), 1000).unwrap_err(), "a schema has at most 1000 columns");
    let long = format!("{} Int8", "a".repeat(256));
    assert!(parse(&long, 1000).unwrap_err().contains("is not a valid column name"));
    assert!(parse(&"a".repeat(2 << 20), 1000).unwrap_err().contains("bytes"));
}

#[test]
fn a_column_that_was_declared_elsewhere_is_shown_in_these_words() {
    let shown = |column: &Column| Shown::from_column(column, None).declaration();
    assert_eq!(shown(&Column::new("a b", ColumnType::Int64)), "Nullable(Int64) `json:$.['a b']`");
    let list = ColumnType::List(Box::new(ColumnType::Timestamp));
    assert_eq!(shown(&Column::new("l", list)), "Array(DateTime64(6)) `json:$.l`");
    let polaris =
        Column { declared: Some("long".to_owned()), nullable: false, ..Column::new("n", ColumnType::Int64) };
    assert_eq!(shown(&polaris), "Int64 `json:$.n`");
    // The declaration no longer matches the column.
    let widened = Column { declared: Some("Int16".to_owned()), ..Column::new("n", ColumnType::Int64) };
    assert_eq!(Shown::from_column(&widened, Some("DEFAULT 7")).declaration(), "Nullable(Int64) `json:$.n`");
    let other = Column {
        default: Some(8.into()),
        declared: Some("Nullable(Int64)".to_owned()),
        ..Column::new("n", ColumnType::Int64)
    };
    assert_eq!(
        Shown::from_column(&other, Some("DEFAULT 7")).declaration(),
        "Nullable(Int64) `json:$.n` DEFAULT 8"
    );
}
