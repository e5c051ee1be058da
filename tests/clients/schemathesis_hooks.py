"""Teaches schemathesis to send NDJSON bodies."""
import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    lines = value if isinstance(value, list) else [value]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return {"data": text.encode("utf-8", "surrogatepass")}
