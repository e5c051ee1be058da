//! Schemas: type names, validation, and which changes lose data.

use super::*;

#[test]
fn a_type_is_read_from_its_name() {
    for name in [
        "string",
        "fixedstring(16)",
        "uuid",
        "int8",
        "uint64",
        "float32",
        "decimal(38, 9)",
        "bool",
        "timestamp",
        "date",
        "binary",
        "json",
        "list<list<float64>>",
        "map<string, list<int64>>",
        "struct<a: int64, \"b c\": struct<\"\": date>, \"x>\": json>",
    ] {
        let kind: ColumnType = name.parse().unwrap();
        assert_eq!(kind.name(), name);
        let json = serde_json::to_string(&kind).unwrap();
        assert_eq!(serde_json::from_str::<ColumnType>(&json).unwrap(), kind, "{json}");
    }
    assert_eq!("Decimal( 10 ,2 )".parse(), Ok(ColumnType::Decimal { precision: 10, scale: 2 }));
    for bad in [
        "",
        "int65",
        "list<int64",
        "list",
        "list<>",
        "map<int64, string>",
        "struct<>",
        "struct<a int64>",
        "int64>",
        "decimal(999, 0)",
        "decimal(5)",
        "fixedstring(-1)",
        &"list<".repeat(10_000),
    ] {
        assert!(bad.parse::<ColumnType>().is_err(), "{bad:.40}");
    }
}

#[test]
fn columns_of_older_catalogs_are_read() {
    let old = r#"[{"name":"a","type":"int64"},{"name":"o","type":{"struct":[{"name":"x","type":{"list":"string"}}]}}]"#;
    let columns: Vec<Column> = serde_json::from_str(old).unwrap();
    assert_eq!(columns[0], Column::new("a", ColumnType::Int64));
    assert_eq!(columns[1].kind.name(), "struct<x: list<string>>");
    assert_eq!(serde_json::to_string(&columns).unwrap(), old, "unset settings are not written");
}

#[test]
fn columns_that_make_no_table_are_refused() {
    let check = |columns: Vec<Column>, expected: &str| {
        let schema = std::sync::Arc::new(Schema { version: 1, columns });
        let rules = Rules { policy: Policy::Strict, schema, ..Rules::default() };
        assert_eq!(rules.check(5).unwrap_err().to_string(), expected);
    };
    let int = |name: &str| Column::new(name, ColumnType::Int64);
    let at = |name: &str, path: &[&str]| Column {
        path: Some(path.iter().map(|key| (*key).to_owned()).collect()),
        ..int(name)
    };
    check(vec![], "the stream's policy requires at least one column");
    check(vec![int("")], "a column name must be 1 to 255 bytes long");
    check(vec![int("_lsn")], "the name '_lsn' is reserved for a system column");
    check(vec![int("a"), int("a")], "duplicate column name 'a'");
    check((0..6).map(|n| int(&n.to_string())).collect(), "too many Parquet columns: 6, the limit is 5");
    check(
        vec![int("a"), at("b", &["a"])],
        "columns 'a' and 'b' read their values from the same place in the record",
    );
    check(
        vec![at("a_b", &["a", "b"]), int("a")],
        "the value of column 'a_b' lies inside the value of column 'a'",
    );
    check(vec![at("a", &[])], "column 'a': a path must have 1 to 32 keys");
    let decimal = ColumnType::Decimal { precision: 3, scale: 4 };
    check(
        vec![Column::new("d", decimal)],
        "column 'd': a decimal must have a precision of 1 to 76 and a scale no larger than it",
    );
    let digits = Column { epoch_digits: Some(3), ..int("n") };
    check(vec![digits], "column 'n': epoch_digits is valid only for timestamps");
}

#[test]
fn keys_are_exact_and_stay_as_they_are() {
    let rules = |policy, partitions, key: &[&str], columns: &[(&str, &str)]| {
        let columns = columns.iter().map(|(name, kind)| Column::new(*name, kind.parse().unwrap())).collect();
        let key = key.iter().map(|name| (*name).to_owned()).collect();
        let settings = StreamSettings { partitions, key, ..StreamSettings::default() };
        let schema = std::sync::Arc::new(Schema { version: 1, columns });
        Rules { policy, schema, placement: settings.placement(), ..Rules::default() }
    };
    let columns = [("a", "int64"), ("b", "decimal(38, 2)"), ("c", "float64"), ("d", "list<int8>")];
    let check = |rules: Rules, expected: &str| {
        assert_eq!(rules.check(9).map_or_else(|error| error.to_string(), |()| String::new()), expected);
    };
    let of_key = |partitions, key: &[&str]| rules(Policy::Strict, partitions, key, &columns);
    check(of_key(4, &["a", "b"]), "");
    check(of_key(1024, &[]), "");
    check(of_key(1025, &[]), "a stream must have 1 to 1024 partitions");
    check(of_key(0, &["a"]), "a stream must have 1 to 1024 partitions");
    check(of_key(4, &["a", "a"]), "column 'a' cannot be a key: it is listed twice");
    check(of_key(4, &["x"]), "column 'x' cannot be a key: the stream has no such column");
    for float in ["c", "d"] {
        let expected = format!("column '{float}' cannot be a key: its type is not valid for a key");
        check(of_key(4, &[float]), &expected);
    }
    check(rules(Policy::Evolve, 4, &[], &[]), "");
    let expected = "column 'a' cannot be a key: the stream's policy has no declared columns";
    check(rules(Policy::Evolve, 4, &["a"], &columns), expected);
    check(
        rules(Policy::Strict, 1, &[], &[("_offset", "int64")]),
        "the name '_offset' is reserved for a system column",
    );
    check(rules(Policy::Strict, 0, &[], &[("_offset", "int64")]), "");
    let before = of_key(4, &["a"]);
    for (changed, kept) in [
        (of_key(4, &["a"]), true),
        (rules(Policy::Strict, 4, &["a"], &[("a", "int64"), ("z", "string")]), true),
        (rules(Policy::Strict, 4, &["a"], &[("a", "string")]), false),
        (of_key(5, &["a"]), false),
        (of_key(4, &["a", "b"]), false),
        (of_key(0, &[]), false),
    ] {
        assert_eq!(before.keeps_placement(&changed).is_ok(), kept, "{changed:?}");
    }
}

#[test]
fn a_change_knows_what_it_loses() {
    let column = |name: &str, kind: &str| Column::new(name, kind.parse().unwrap());
    let old = Schema {
        version: 1,
        columns: vec![column("a", "int32"), column("b", "string"), column("c", "list<int8>")],
    };
    let check = |new: Vec<Column>, expected: &[(&str, bool)]| {
        let changes = change(&old, &new);
        let found: Vec<(String, bool)> = changes.iter().map(|c| (c.to_string(), c.loses_data())).collect();
        let expected: Vec<_> = expected.iter().map(|(text, loses)| ((*text).to_owned(), *loses)).collect();
        assert_eq!(found, expected);
    };
    check(old.columns.clone(), &[]);
    check(
        vec![column("a", "int64"), column("b", "int64"), column("c", "list<int16>"), column("d", "date")],
        &[
            ("column 'a' changes from int32 to int64", false),
            ("column 'b' changes from string to int64", true),
            ("column 'c' changes from list<int8> to list<int16>", false),
            ("column 'd' of type date is added", false),
        ],
    );
    let required = Column { nullable: false, ..column("a", "int32") };
    check(
        vec![column("c", "list<int8>"), required],
        &[
            ("column 'a' no longer accepts nulls and has no default", true),
            ("column 'b' is removed", true),
            ("the columns are in a different order", false),
        ],
    );
}

#[test]
fn a_wider_type_holds_every_value() {
    let check = |wide: &str, narrow: &str, expected: bool| {
        let (a, b): (ColumnType, ColumnType) = (wide.parse().unwrap(), narrow.parse().unwrap());
        assert_eq!(a.holds(&b), expected, "{wide} holds {narrow}");
    };
    check("int64", "uint32", true);
    check("int32", "uint32", false);
    check("uint64", "int8", false);
    check("float64", "int32", true);
    check("float64", "int64", false);
    check("string", "timestamp", true);
    check("string", "list<string>", false);
    check("json", "struct<a: int8>", true);
    check("decimal(20, 2)", "decimal(10, 2)", true);
    check("decimal(20, 2)", "decimal(20, 1)", false);
    check("decimal(12, 2)", "int32", true);
    check("struct<a: int64, b: date>", "struct<a: int8>", true);
    check("struct<a: int8>", "struct<a: int8, b: date>", false);
    check("timestamp", "date", false);
}
