"""OpenTelemetry's own exporter for Python against the OTLP source: logs, metrics and traces over http/protobuf.

    python otlp_exporter.py FOREBAY

The rows are read back with pyarrow.
"""

import json
import logging
import sys
import tempfile
import time
import urllib.request

from daemon import Daemon, check
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SOURCES = "/v1/branches/default/sources"
SIGNALS = ["logs", "metrics", "traces"]


class Api:
    def __init__(self, daemon):
        self.daemon = daemon

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.daemon.events + path, data=data, method=method)
        request.add_header("X-StorageApi-Token", self.daemon.token)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def task(self, path, body):
        task = self.call("POST", path, body)
        while not task["isFinished"]:
            task = self.call("GET", f"/v1/tasks/{task['taskId']}")
            time.sleep(0.01)
        check(task["type"], task["status"], "success")
        return task["outputs"]


def main(binary):
    with tempfile.TemporaryDirectory() as directory:
        daemon = Daemon(binary, directory)
        try:
            run(daemon)
        finally:
            daemon.process.kill()
            daemon.process.wait()


def run(daemon):
    api = Api(daemon)
    source = api.task(SOURCES, {"type": "otlp", "name": "Shop"})["sourceId"]
    for signal in SIGNALS:
        columns = [
            {"type": "uuid", "name": "id"},
            {"type": "body", "name": "record"},
            {"type": "path", "name": "resource", "path": "resource"},
        ]
        sink = {"type": "table", "name": signal, "allowedSignals": [signal]}
        sink["table"] = {"type": "keboola", "tableId": f"in.c-otlp.{signal}", "mapping": {"columns": columns}}
        api.task(f"{SOURCES}/{source}/sinks", sink)
    otlp = api.call("GET", f"{SOURCES}/{source}")["otlp"]
    resource = Resource.create({"service.name": "shop"})

    # The secret in the path, and bodies compressed.
    traces = OTLPSpanExporter(endpoint=f"{otlp['url']}/v1/traces", compression=Compression.Gzip)
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(traces))
    tracer = tracing.get_tracer("checkout")
    with tracer.start_as_current_span("order", attributes={"items": 3}):
        with tracer.start_as_current_span("pay"):
            pass

    # The secret in the header.
    headers = {"Authorization": f"Bearer {otlp['secret']}"}
    metrics = OTLPMetricExporter(endpoint=f"{otlp['baseUrl']}/v1/metrics", headers=headers)
    metering = MeterProvider([PeriodicExportingMetricReader(metrics, 3_600_000)], resource)
    meter = metering.get_meter("checkout")
    meter.create_counter("orders").add(2, {"country": "cz"})
    meter.create_histogram("amount", unit="EUR").record(12.5)

    logs = OTLPLogExporter(endpoint=f"{otlp['baseUrl']}/v1/logs", headers=headers)
    recording = LoggerProvider(resource)
    recording.add_log_record_processor(BatchLogRecordProcessor(logs))
    logger = logging.getLogger("shop")
    logger.addHandler(LoggingHandler(logger_provider=recording))
    for n in range(10):
        logger.warning("order %d", n)

    for provider in [tracing, metering, recording]:
        check(f"{type(provider).__name__} is flushed", provider.force_flush() is not False, True)

    def records(signal):
        rows = daemon.rows(f"in.c-otlp.{signal}")
        check(f"{signal} have rows", len(rows) > 0, True)
        for row in rows:
            check("resource", json.loads(row["resource"])["service.name"], "shop")
        return [json.loads(row["record"]) for row in rows]

    found = records("logs")
    check("logs", [log["body"] for log in found], [f"order {n}" for n in range(10)])
    check("severity", {log["severity_text"] for log in found}, {"WARN"})
    found = {metric["name"]: metric for metric in records("metrics")}
    orders, amount = found["orders"], found["amount"]
    check("a sum", (orders["type"], orders["value"], orders["attributes"]), ("sum", 2, {"country": "cz"}))
    check("a histogram", (amount["type"], amount["count"], amount["sum"]), ("histogram", 1, 12.5))
    found = {span["name"]: span for span in records("traces")}
    check("spans", sorted(found), ["order", "pay"])
    check("a child's parent", found["pay"]["parent_span_id"], found["order"]["span_id"])
    check("attributes", found["order"]["attributes"], {"items": 3})
    # The daemon still runs, so that the exporters can send their last data at the end of the process.
    for provider in [tracing, metering, recording]:
        provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
