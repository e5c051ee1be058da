"""Clients of Tinybird against Forebay: python3 tests/clients/tinybird_verdin.py target/debug/forebay

verdin and requests (PyPI), with credentials: events with and without gzip and `wait`, data sources made, appended to,
shown and dropped, tokens. What they sent is then read from the tables with pyarrow.
"""

import gzip
import json
import sys
import tempfile
import urllib.parse

import requests
from verdin.api import ApiError
from verdin.api.datasources import DataSourceNotFoundError
from verdin.client import Client

from daemon import Daemon, check

SCHEMA = "Id String `json:$.Id`, Timestamp DateTime64(6) `json:$.Timestamp`, n Nullable(Int32) `json:$.n`"


def refused(call, status, error):
    try:
        call()
    except ApiError as refusal:
        check(f"{status}", (refusal.status_code, refusal.json["error"]), (status, error))
    else:
        raise SystemExit(f"{status} expected")


def row(number):
    return {"Id": f"id{number}", "Timestamp": f"2024-01-23T10:30:00.{number:06}", "n": number}


def make(daemon, name):
    query = urllib.parse.urlencode({"name": name, "format": "ndjson", "schema": SCHEMA})
    headers = {"Authorization": f"Bearer {daemon.token}"}
    made = requests.post(f"{daemon.events}/v0/datasources/?{query}", headers=headers)
    check(f"{name} is made", (made.status_code, made.json()["error"]), (200, False))


def events(daemon, client):
    make(daemon, "events")
    api = client.api.events
    rows = 0
    for wait in (False, True):
        for compress in (False, True):
            sent = api.send("events", [row(rows), row(rows + 1)], wait=wait, compress=compress)
            rows += 2
            what = f"events, wait={wait}, compress={compress}"
            check(what, (sent.successful_rows, sent.quarantined_rows), (2, 0))
            check("status", sent._response.status_code, 200 if wait else 202)
    sent = client.datasource("events").send_events([row(rows), {"Id": 3, "Timestamp": "soon"}, {"n": 1}])
    check("events that do not fit", (sent.successful_rows, sent.quarantined_rows), (1, 2))
    found = daemon.rows("events")
    check("rows of events", [row["Id"] for row in found], [f"id{n}" for n in range(rows + 1)])
    check("their times", found[1]["Timestamp"].isoformat(), "2024-01-23T10:30:00.000001+00:00")
    check("their quarantine", len(daemon.rows("events_quarantine")), 2)
    # As other clients send events: without a content type, as plain text, or as a form; and with unknown parameters.
    for kind in (None, "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "application/json"):
        query = "name=events&mode=append&format=ndjson&wait=false&from=python-sdk&__tb__semver=1"
        headers = {"Authorization": f"bearer {daemon.token}", "Connection": "close", "Content-Type": kind}
        body = json.dumps(row(1))
        sent = requests.post(f"{daemon.events}/v0/events?{query}", data=body, headers=headers)
        check(f"content type {kind}", (sent.status_code, sent.json()), (202, {"successful_rows": 1, "quarantined_rows": 0}))
    sent = requests.post(
        f"{daemon.events}/v0/events/?name=events&wait=true&token={daemon.token}",
        data=gzip.compress(b'{"Id":"a","Timestamp":"2024-01-01"}\n') + gzip.compress(b'{"Id":"b","Timestamp":"2024-01-01"}'),
        headers={"Content-Encoding": "gzip"},
    )
    check("two members of gzip", (sent.status_code, sent.json()["successful_rows"]), (200, 2))


def datasources(daemon, client):
    make(daemon, "source")
    api = client.api.datasources
    source = client.datasource("source")
    check("append ndjson", source.append_ndjson([row(0), row(1)]).json()["quarantine_rows"], 0)
    answer = source.append([["id2", "2024-01-01 00:00:00", 2], ["id3", "2024-01-01 00:00:00", ""]]).json()
    check("append csv", (answer["error"], answer["invalid_lines"]), (False, 0))
    lines = [json.dumps(row(4)) + "\n", "no record\n"]
    answer = api.append("source", iter([line.encode() for line in lines]), format="ndjson")
    text = "There was an error with file contents: 1 row in quarantine and 1 invalid line."
    check("an invalid line", (answer.quarantine_rows, answer.invalid_lines, answer.error), (1, 1, text))
    info = api.get_information("source").info
    check("rows", info["statistics"]["row_count"], 5)
    check("schema", info["schema"]["sql_schema"].replace("`Id`", "Id").split(",")[0], "Id String `json:$.Id`")
    check("by its id", api.get_information(info["id"]).info["name"], "source")
    names = [source["name"] for source in api.list().datasources]
    check("list", names, ["events", "source"])
    found = daemon.rows("source")
    check("rows of source", [(row["Id"], row["n"]) for row in found], [("id0", 0), ("id1", 1), ("id2", 2), ("id3", None), ("id4", 4)])
    text = "Truncating is not supported: published rows stay at the destination. "
    text += "Drop the data source, or create another one"
    refused(source.truncate, 400, text)
    headers = {"Authorization": f"Bearer {daemon.token}"}
    dropped = requests.delete(f"{daemon.events}/v0/datasources/source?force=true", headers=headers)
    check("dropped", (dropped.status_code, dropped.content), (204, b""))
    check("list", [source["name"] for source in api.list().datasources], ["events"])
    make(daemon, "source")
    try:
        api.get_information("missing")
    except DataSourceNotFoundError as missing:
        check("missing", missing.json["error"], 'Data Source "missing" does not exist')


def tokens(daemon, client):
    listed = client.api.tokens.list().tokens
    check("tokens", [token["name"] for token in listed], ["admin"])
    query = urllib.parse.urlencode({"name": "page", "scope": "DATASOURCES:APPEND:events"})
    headers = {"Authorization": f"Bearer {daemon.token}"}
    made = requests.post(f"{daemon.events}/v0/tokens/?{query}", headers=headers).json()
    page = Client(made["token"], api=daemon.events)
    sent = page.datasource("events").send_events([row(9)])
    check("a token of one data source", sent.successful_rows, 1)
    refused(lambda: page.datasource("source").send_events([row(9)]), 403, "token lacks DATASOURCES:APPEND:source")
    refused(lambda: page.api.tokens.list(), 403, "token lacks TOKENS")
    stranger = Client("p.unknown", api=daemon.events)
    refused(lambda: stranger.datasource("events").send_events([row(9)]), 403, "invalid authentication token")


def main():
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(sys.argv[1], directory)
        try:
            client = Client(daemon.token, api=daemon.events)
            events(daemon, client)
            datasources(daemon, client)
            tokens(daemon, client)
        finally:
            daemon.process.terminate()
            daemon.process.wait()


main()
