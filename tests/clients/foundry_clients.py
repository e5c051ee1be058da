"""Palantir Foundry's published SDK against Forebay: python3 tests/clients/foundry_clients.py target/debug/forebay

Starts the daemon as it is in production, with credentials, and lets the vendor's SDK (PyPI: foundry-platform-sdk) talk to
it with a user token and as an OAuth application. What was published is then read from the tables with pyarrow.
"""

import datetime
import decimal
import json
import os
import subprocess
import sys
import tempfile

from foundry_sdk import Config, ConfidentialClientAuth, UserTokenAuth
from foundry_sdk.v2 import FoundryClient
from foundry_sdk.v2.core import models as core
from foundry_sdk.v2.core.errors import InvalidFieldSchema, InvalidSchema
from foundry_sdk.v2.datasets.errors import BranchAlreadyExists
from foundry_sdk.v2.filesystem.errors import ResourceNameAlreadyExists
from foundry_sdk.v2.streams import errors, models

from daemon import Daemon, check

FOLDER = "ri.compass.main.folder.0f2b1a9e-0000-4000-8000-000000000001"


def field(name, data_type, nullable=True):
    return core.Field(name=name, schema=core.FieldSchema(nullable=nullable, data_type=data_type))


FIELDS = [
    field("sensor_id", core.StringType(), nullable=False),
    field("temperature", core.DoubleType()),
    field("n", core.LongType()),
    field("at", core.TimestampType()),
    field("price", core.DecimalType(precision=10, scale=2)),
    field("tags", core.ArrayFieldType(items_schema=core.FieldSchema(nullable=True, data_type=core.StringType()))),
]
SCHEMA = core.StreamSchema(fields=FIELDS, key_field_names=["sensor_id"])


def client(daemon, auth):
    scheme, host = daemon.events.split("://")
    return FoundryClient(auth=auth, hostname=host, config=Config(scheme=scheme))


def refusal(call, *arguments, **named):
    """Returns the error that a call raises."""
    try:
        call(*arguments, **named)
    except Exception as error:
        return error
    raise SystemExit(f"{call} was not refused")


def make(streams):
    dataset = streams.create(
        name="sensors", parent_folder_rid=FOLDER, schema=SCHEMA, branch_name="master", compressed=False, preview=True
    )
    check("dataset", (dataset.name, dataset.parent_folder_rid), ("sensors", FOLDER))
    again = refusal(streams.create, name="sensors", parent_folder_rid=FOLDER, schema=SCHEMA, preview=True)
    check("the same name again", type(again), ResourceNameAlreadyExists)
    keys = core.StreamSchema(fields=FIELDS, key_field_names=["temperature"])
    wrong = refusal(streams.create, name="x", parent_folder_rid=FOLDER, schema=keys, preview=True)
    check("a key of doubles", (type(wrong), wrong.parameters["fieldName"]), (InvalidFieldSchema, "temperature"))
    twice = core.StreamSchema(fields=FIELDS + FIELDS, key_field_names=["none"])
    wrong = refusal(streams.create, name="x", parent_folder_rid=FOLDER, schema=twice, preview=True)
    check("all errors at once", (type(wrong), len(wrong.parameters["errors"])), (InvalidSchema, len(FIELDS) + 1))
    return dataset.rid


def publish(streams, dataset):
    stream = streams.Stream.get(dataset, "master")
    check("stream", (stream.branch_name, stream.partitions_count, stream.stream_type), ("master", 1, "LOW_LATENCY"))
    check("schema", stream.schema_, SCHEMA)
    first = {"sensor_id": "s1", "temperature": 4.132, "n": 12345678901234567, "at": 1731426022784, "price": "12.30"}
    check("one", streams.Stream.publish_record(dataset, "master", record=first), None)
    many = [{"sensor_id": "s2", "tags": ["a", "b"]}, {"sensor_id": "s3", "temperature": None}]
    published = streams.Stream.publish_records(dataset, "master", records=many, view_rid=stream.view_rid)
    check("many", published, None)
    bad = refusal(streams.Stream.publish_records, dataset, "master", records=[many[0], {"sensor_id": 1}])
    # The SDK has classes for few errors of a publish; the others are identified by name.
    found = (bad.name, bad.parameters["datasetRid"], bad.parameters["recordIndex"])
    check("all or none", found, ("RecordDoesNotMatchStreamSchema", dataset, 1))
    large = refusal(streams.Stream.publish_record, dataset, "master", record={"sensor_id": "x" * 2_000_000})
    check("too large", large.name, "RecordTooLarge")
    missing = refusal(streams.Stream.get, dataset, "none")
    check("no such branch", type(missing), errors.StreamNotFound)


def read_back(streams, dataset):
    stream = streams.Stream
    check("end offsets", stream.get_end_offsets(dataset, "master", preview=True), {"0": 3})
    records = stream.get_records(dataset, "master", partition_id="0", limit=2, start_offset=1, preview=True)
    check("by offset", [(record.offset, record.value["sensor_id"]) for record in records], [(1, "s2"), (2, "s3")])
    first = stream.get_records(dataset, "master", partition_id="0", limit=1, preview=True)[0].value
    values = (first["temperature"], first["n"], first["at"], first["price"])
    check("values by offset", values, (4.132, 12345678901234567, 1731426022784, "12.30"))


def subscribe(streams, dataset):
    reader, to = streams.Stream.Subscriber, (dataset, "master", "reader")
    made = reader.create(dataset, "master", subscriber_id="reader", preview=True)
    check("subscriber", (made.subscriber_id, made.start_offsets), ("reader", {"0": 0}))

    def read(**named):
        records = reader.read_records(*to, preview=True, **named).records_by_partition
        return [record.value["sensor_id"] for record in records.get("0", [])]

    check("its records", read(limit=2), ["s1", "s2"])
    check("not committed", read(limit=1, auto_commit=True), ["s1"])
    check("committed", reader.commit_offsets(*to, offsets={"0": 1}, preview=True), {"0": 2})
    check("the rest", read(), ["s3"])
    beyond = refusal(reader.commit_offsets, *to, offsets={"0": 99}, preview=True)
    check("beyond the end", beyond.name, "Default:InvalidArgument")
    latest = reader.reset_offsets(*to, position=models.LatestPosition(type="latest"), preview=True)
    check("latest", latest, reader.get_read_position(*to, preview=True))
    reader.delete(*to, preview=True)
    check("deleted", type(refusal(reader.get_read_position, *to, preview=True)), errors.SubscriberNotFound)


def branches(streams, dataset):
    fields = [field("payload", core.BinaryType())]
    schema, new = core.StreamSchema(fields=fields), models.CreateStreamRequestStreamSchema(fields=fields)
    stream = streams.Stream.create(dataset, branch_name="feature/x", schema=new, partitions_count=2, preview=True)
    check("branch", (stream.branch_name, stream.partitions_count), ("feature/x", 2))
    check("the same", streams.Stream.get(dataset, "feature/x"), stream)
    again = refusal(streams.Stream.create, dataset, branch_name="feature/x", schema=new, preview=True)
    check("again", type(again), BranchAlreadyExists)
    streams.Stream.publish_binary_record(dataset, "feature/x", body=b"\x00\xff", view_rid=stream.view_rid)
    after = streams.Stream.reset(dataset, "feature/x", preview=True)
    check("after the reset", (after.view_rid != stream.view_rid, after.schema_), (True, schema))
    late = refusal(streams.Stream.publish_binary_record, dataset, "feature/x", body=b"1", view_rid=stream.view_rid)
    check("for the old view", (late.name, late.parameters), ("ViewNotFound", {"viewRid": stream.view_rid}))
    streams.Stream.publish_binary_record(dataset, "feature/x", body=b"new")


def reads(streams, dataset):
    """Reads the published records by offset and as a subscriber, while they are in the log."""
    stream, readers = streams.Stream, streams.Stream.Subscriber
    check("end offsets", stream.get_end_offsets(dataset, "master", preview=True), {"0": 3})
    records = stream.get_records(dataset, "master", partition_id="0", limit=2, start_offset=1, preview=True)
    found = [(record.offset, record.value["sensor_id"]) for record in records]
    check("records", found, [(1, "s2"), (2, "s3")])
    place = (dataset, "master", "reader")
    made = readers.create(dataset, "master", subscriber_id="reader", preview=True)
    check("subscriber", (made.subscriber_id, made.branch_name), ("reader", "master"))
    again = readers.create(dataset, "master", subscriber_id="reader", preview=True)
    check("the same again", again.created_time, made.created_time)
    other = refusal(readers.create, dataset, "feature/x", subscriber_id="reader", preview=True)
    check("for another stream", type(other), errors.SubscriberAlreadyExists)

    def batch(**named):
        answer = readers.read_records(*place, preview=True, **named)
        return [record.value["sensor_id"] for record in answer.records_by_partition.get("0", [])]

    check("read", batch(limit=2), ["s1", "s2"])
    check("not committed", batch(limit=1), ["s1"])
    check("committed", readers.commit_offsets(*place, offsets={"0": 0}, preview=True), {"0": 1})
    check("read on", batch(auto_commit=True), ["s2", "s3"])
    check("position", readers.get_read_position(*place, preview=True), {"0": 3})
    beyond = refusal(readers.commit_offsets, *place, offsets={"0": 100}, preview=True)
    check("beyond the end", type(beyond).__name__, "BadRequestError")
    earliest = models.EarliestPosition()
    check("from the start", readers.reset_offsets(*place, position=earliest, preview=True), {"0": 0})
    check("deleted", readers.delete(*place, preview=True), None)
    gone = refusal(readers.get_read_position, *place, preview=True)
    check("gone", gone.name, "SubscriberNotFound")


def application(daemon, dataset):
    made = json.loads(daemon.command("client", "create", "app", "--role", "ingest:sensors", "--json"))
    auth = ConfidentialClientAuth(
        client_id=made["client_id"],
        client_secret=made["client_secret"],
        scopes=["api:streams-write"],
        should_refresh=True,
        hostname=daemon.events.split("://")[1],
        config=Config(scheme="http"),
    )
    streams = client(daemon, auth).streams.Dataset
    streams.Stream.publish_record(dataset, "master", record={"sensor_id": "by the application"})
    denied = refusal(streams.Stream.reset, dataset, "master", preview=True)
    check("what it may not do", type(denied), errors.ResetStreamPermissionDenied)
    token = auth.get_token().access_token
    auth.sign_out()
    ended = client(daemon, UserTokenAuth(token=token)).streams.Dataset
    refused = refusal(ended.Stream.publish_record, dataset, "master", record={"sensor_id": "late"})
    check("after it signed out", refused.name, "Default:Unauthorized")


def snippets(daemon, streams, directory):
    """Runs the daemon's snippets for a stream unchanged, in each language, also for names that need escaping."""
    names = ["größe", "it's", 'a "quoted" \\u0041 $HOME ${x} `name`']
    awkward = core.StreamSchema(fields=[field(name, core.StringType()) for name in names], key_field_names=[])
    streams.create(name="awkward", parent_folder_rid=FOLDER, schema=awkward, preview=True)
    java = os.path.join(directory, "Publish.java")
    commands = {
        "curl": lambda code: ["bash", "-c", code],
        "python": lambda code: [sys.executable, "-c", code],
        "javascript": lambda code: ["node", "--input-type=module", "--eval", code],
        "java": lambda _: ["java", java],
    }
    # Without a locale, as in a service or a container.
    environment = {**os.environ, "TOKEN": daemon.token, "LC_ALL": "C"}
    for stream in ["sensors", "awkward"]:
        for language, command in commands.items():
            code = daemon.command("stream", "snippet", stream, "--language", language)
            if language == "java":
                with open(java, "w", encoding="utf-8") as file:
                    file.write(code)
            subprocess.run(command(code), env=environment, check=True)
    expected = [{name: "text" for name in names}] * len(commands)
    found = [{name: row[name] for name in names} for row in daemon.rows("awkward")]
    check("what the code sent", found, expected)


def rows(daemon):
    found = daemon.rows("sensors")
    check("ids", sorted(row["sensor_id"] for row in found), ["by the application", "s1", "s2", "s3"] + 4 * ["text"])
    first = next(row for row in found if row["sensor_id"] == "s1")
    at = datetime.datetime.fromtimestamp(1731426022784 / 1000, tz=datetime.timezone.utc)
    values = (first["temperature"], first["n"], first["price"], first["at"])
    check("values", values, (4.132, 12345678901234567, decimal.Decimal("12.30"), at))
    check("bytes", [row["payload"] for row in daemon.rows("sensors.feature_x")], [b"\x00\xff"])
    check("bytes after the reset", [row["payload"] for row in daemon.rows("sensors.feature_x.v2")], [b"new"])


def main():
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(sys.argv[1], directory)
        try:
            streams = client(daemon, UserTokenAuth(token=daemon.token)).streams.Dataset
            dataset = make(streams)
            publish(streams, dataset)
            read_back(streams, dataset)
            subscribe(streams, dataset)
            branches(streams, dataset)
            reads(streams, dataset)
            application(daemon, dataset)
            snippets(daemon, streams, directory)
            rows(daemon)
        finally:
            daemon.process.terminate()
            daemon.process.wait()


if __name__ == "__main__":
    main()
