"""Reads Forebay's files with DuckDB and pyarrow: python3 tests/readers.py target/debug/forebay

Starts the daemon on free ports, loads numbered events of every type and the real events of tests/data, and compares
the rows that both readers return with the events that were sent.
"""

import datetime
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import duckdb
import pyarrow.dataset
import pyarrow.parquet

ROWS = 20_000
DATA = pathlib.Path(__file__).parent / "data" / "github-webhooks.ndjson.gz"


def event(n):
    start = datetime.datetime(2026, 11, 20, tzinfo=datetime.timezone.utc)
    return {
        "n": n,
        "price": n / 8,
        "name": f"Zoë 東京 {n % 7}",
        "flag": n % 3 == 0,
        "at": (start + datetime.timedelta(seconds=n)).isoformat(),
        "tags": [f"t{n % 5}", "x"],
        "place": {"city": "Chicago" if n % 2 else None, "lat": n % 90},
        "mixed": n if n % 1000 else "thousand",
    }


def start(binary, directory):
    command = [binary, "serve", "--dev", "--data-dir", directory]
    command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    addresses = {}
    for line in daemon.stdout:
        words = line.split()
        if words[0] in ("events", "admin"):
            addresses[words[0]] = words[1]
        if words[0] == "try":
            return daemon, addresses
    raise SystemExit("the daemon did not start")


def load(binary, addresses, file, stream):
    command = [binary, "load", file, "--stream", stream, "--url", addresses["events"], "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def check(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"ok  {what}: {found!r}")


def numbered(tables):
    files = f"{tables}/numbers/**/*.parquet"
    events = [event(n) for n in range(ROWS)]
    expected = (
        ROWS,
        sum(e["n"] for e in events),
        sum(e["price"] for e in events),
        sum(e["flag"] for e in events),
        sum(e["place"]["lat"] for e in events),
        sum(e["place"]["city"] is not None for e in events),
        len({e["name"] for e in events}),
        datetime.datetime.fromisoformat(events[-1]["at"]).timestamp(),
    )
    query = """SELECT count(*), sum(n), sum(price), sum(flag::INT), sum(place.lat), count(place.city),
               count(DISTINCT name), epoch(max("at")) FROM read_parquet(?, hive_partitioning = true)"""
    check("DuckDB, numbered events", duckdb.execute(query, [files]).fetchone(), expected)
    check("DuckDB, distinct tags", duckdb.execute(
        "SELECT list_sort(list(DISTINCT tag)) FROM (SELECT unnest(tags) AS tag FROM read_parquet(?))", [files]
    ).fetchone()[0], ["t0", "t1", "t2", "t3", "t4", "x"])
    table = pyarrow.dataset.dataset(f"{tables}/numbers", partitioning="hive").to_table()
    rows = {row["n"]: row for row in table.to_pylist()}
    check("pyarrow, rows", len(rows), ROWS)
    for n in (0, 1, 999, 1000, ROWS - 1):
        row, sent = rows[n], events[n]
        found = {key: row[key] for key in ("n", "price", "name", "flag", "tags", "place")}
        check(f"pyarrow, event {n}", found, {key: sent[key] for key in found})
        check(f"pyarrow, time of {n}", row["at"], datetime.datetime.fromisoformat(sent["at"]))
    kept = lambda row: row["mixed"] if row["mixed"] is not None else json.loads(row["_rescued"])["mixed"]
    check("pyarrow, mixed types", [str(kept(rows[n])) for n in (999, 1000)], ["999", "thousand"])


def real(tables):
    sent = [json.loads(line) for line in gzip.open(DATA, "rt", encoding="utf-8")]
    files = f"{tables}/github/**/*.parquet"
    duck = duckdb.execute(
        "SELECT event, count(*) FROM read_parquet(?) GROUP BY event ORDER BY event", [files]
    ).fetchall()
    kinds = sorted({e["event"] for e in sent})
    check("DuckDB, kinds of real events", duck, [(k, sum(e["event"] == k for e in sent)) for k in kinds])
    table = pyarrow.dataset.dataset(f"{tables}/github", partitioning="hive").to_table()
    senders = [row["sender"] and row["sender"]["login"] for row in table.to_pylist()]
    expected = sorted(str((e.get("sender") or {}).get("login")) for e in sent)
    check("pyarrow, senders", len(senders), len(expected))
    if sorted(map(str, senders)) != expected:
        raise SystemExit("the senders that pyarrow returns differ from those sent")
    metadata = pyarrow.parquet.read_metadata(next(pathlib.Path(tables, "github").rglob("*.parquet"))).metadata
    keys = sorted(k.decode() for k in metadata if k.startswith(b"forebay."))
    print("ok  metadata:", ", ".join(keys))
    if not keys:
        raise SystemExit("the files have no metadata that names their origin")


def main(binary):
    with tempfile.TemporaryDirectory() as directory:
        daemon, addresses = start(binary, f"{directory}/data")
        try:
            numbers = pathlib.Path(directory, "numbers.ndjson")
            numbers.write_text("".join(json.dumps(event(n)) + "\n" for n in range(ROWS)), encoding="utf-8")
            check("loaded", load(binary, addresses, str(numbers), "numbers")["stored"], ROWS)
            check("loaded", load(binary, addresses, str(DATA), "github")["stored"], 329)
            request = urllib.request.Request(f"{addresses['admin']}/admin/v1/publish", method="POST")
            check("published", json.load(urllib.request.urlopen(request))["published"], True)
            numbered(f"{directory}/data/tables")
            real(f"{directory}/data/tables")
        finally:
            daemon.terminate()
        check("the daemon's exit", daemon.wait(timeout=60), 0)


if __name__ == "__main__":
    main(sys.argv[1])
