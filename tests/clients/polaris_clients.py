"""Clients of Imply Polaris against Forebay: python3 tests/clients/polaris_clients.py target/debug/forebay

Starts the daemon as it is in production, with credentials, and lets the pattern of the vendor's push example
(polaris_push.py) and the vendor's published SDK (PyPI: polaris-sdk) talk to it. What they sent is then read from the
tables with pyarrow.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from azure.core.exceptions import ClientAuthenticationError
from polaris.sdk.client import ProjectClient
from polaris.sdk.project_api import models

from daemon import Daemon, check

HERE = pathlib.Path(__file__).parent
PROJECT = "4bd7330d-cb6d-489b-aa7b-22653f237f9d"


def example(daemon, client):
    """The push example, as it is and with its dictionary."""
    made = daemon.command("client", "create", "collector", "--role", "ManageStreams", "--json")
    made = json.loads(made)
    columns = [("__time", "timestamp"), ("price", "double"), ("city", "string")]
    table = client.tables.create_table(
        models.DetailTablePayload(
            name="example",
            version=0,
            schema_mode="strict",
            schema=[models.DetailTableColumn(name=name, data_type=kind) for name, kind in columns],
        )
    )
    environment = {
        **os.environ,
        "POLARIS_CLIENT_ID": made["client_id"],
        "POLARIS_CLIENT_SECRET": made["client_secret"],
    }
    events = []
    for variant in ([], ["form"]):
        command = [sys.executable, str(HERE / "polaris_push.py"), daemon.events, daemon.events, table.id, *variant]
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        said = json.loads(run.stdout)
        check(f"example {variant}, answers", said["statuses"], [401, 200])
        events.append(said["event"])
    rows = daemon.rows("example")
    found = [(row["price"], row["city"], row["__time"].strftime("%Y-%m-%dT%H:%M:%S.%f")) for row in rows]
    check("example, rows", found, [(e["price"], e["city"], e["__time"]) for e in events])


def status_of(pipeline_response, _deserialized, _headers):
    return pipeline_response.http_response.status_code


def sdk(daemon, client):
    """Connection, job and events, through the vendor's SDK."""
    made = client.connections.create_connection(
        models.CreatePushStreamingConnectionRequest(name="demo", description="a demonstration")
    )
    check("connection", (made.name, made.type, made.endpoint_url), (
        "demo", "push_streaming", f"{daemon.events}/v1/projects/{PROJECT}/events/demo"
    ))
    check("connection, test", client.connections.test_connection("demo", cls=status_of), 200)
    again = client.connections.create_connection(
        models.CreatePushStreamingConnectionRequest(name="demo"), cls=status_of
    )
    check("connection, again", again, 409)
    check("connections", [c.name for c in client.connections.list_connections().values], ["demo"])
    changed = client.connections.update_connection(
        "demo", models.UpdatePushStreamingConnectionRequest(description="changed")
    )
    check("connection, changed", changed.description, "changed")
    job = client.jobs.create_job(
        models.CreateStreamingJobRequest(
            source=models.ConnectionJobSourceV2(
                connection_name="demo",
                format_settings=models.JsonFormatSettings(),
                input_schema=[
                    models.FieldNameAndDataType(name="__time", data_type="string"),
                    models.FieldNameAndDataType(name="city", data_type="string"),
                    models.FieldNameAndDataType(name="n", data_type="long"),
                ],
            ),
            target=models.TableJobTargetV2(table_name="visits"),
            create_table_if_not_exists=True,
            mappings=[
                models.InputToTableSchemaMapping(column_name="__time", expression='TIME_PARSE("__time")'),
                models.InputToTableSchemaMapping(column_name="town", expression='"city"'),
                models.InputToTableSchemaMapping(column_name="n", expression='"n"'),
            ],
        )
    )
    check("job", (job.type, job.execution_status, job.health.status), ("streaming", "running", "ok"))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    good = f'{{"__time":"{now}","city":"Chicago","n":1}}\n{{"__time":"{now}","city":"Madrid","n":2}}\n'
    push = client.events.push_events_using_connection
    check("push", push("demo", good.encode(), cls=status_of), 200)
    check("push, not JSON", push("demo", b"not json", cls=status_of), 200)
    check("push, no such connection", push("nothing", good.encode(), cls=status_of), 404)
    check("push, too large", status_of_error(lambda: push("demo", b" " * (2 << 20), cls=status_of)), 413)
    check("rows", [(row["town"], row["n"]) for row in daemon.rows("visits")], [("Chicago", 1), ("Madrid", 2)])
    table = client.tables.describe_table("visits")
    check("table", (table.name, table.total_rows, table.schema_mode), ("visits", 2, "strict"))
    check("table, columns", [(c.name, c.data_type) for c in table.schema], [
        ("__time", "timestamp"), ("town", "string"), ("n", "long")
    ])
    check("tables", sorted(t.name for t in client.tables.list_tables().values), ["example", "visits"])
    table.description = "of the job"
    updated = client.tables.update_table("visits", table)
    check("table, changed", (updated.version, updated.description), (1, "of the job"))
    check("table, stale", client.tables.update_table("visits", table, cls=status_of), 409)
    totals = client.jobs.describe_job_metrics(job.id).totals
    check("job, metrics", (totals.num_rows_processed, totals.num_rows_skipped_by_error), (2, 1))
    check("jobs", [j.id for j in client.jobs.list_jobs(connection_name=["demo"]).values], [job.id])
    check("job, status", client.jobs.describe_job_status(job.id).execution_status, "running")
    log = client.jobs.describe_job_logs(job.id).logs
    check("job, log", [entry.code for entry in log], ["created", "invalid_rows_found"])
    check("job, reset", client.jobs.reset_job(job.id, cls=status_of), 200)
    ended = client.jobs.update_job(job.id, models.UpdateJobStatusRequest(desired_execution_status="canceled"))
    check("job, canceled", ended.execution_status, "canceled")
    check("connection, deleted", client.connections.delete_connection("demo", cls=status_of), 200)


def status_of_error(call):
    try:
        return call()
    except Exception as error:
        return error.status_code


def main(binary):
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(binary, directory)
        try:
            key = daemon.command(
                "token", "create", "sdk", "--kind", "api-key",
                "--scope", "create", "--scope", "ingest:*", "--scope", "read:*",
            )
            client = ProjectClient.from_endpoint(PROJECT, daemon.events, key)
            stranger = ProjectClient.from_endpoint(PROJECT, daemon.events, "nobody")
            try:
                stranger.tables.list_tables()
                raise SystemExit("a key that nobody has is accepted")
            except ClientAuthenticationError as error:
                check("an unknown key", error.status_code, 401)
            example(daemon, client)
            sdk(daemon, client)
        finally:
            daemon.process.terminate()
        check("the daemon's exit", daemon.process.wait(timeout=60), 0)


if __name__ == "__main__":
    main(sys.argv[1])
