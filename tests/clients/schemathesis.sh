#!/usr/bin/env bash
# Calls every route in /openapi.json of a new daemon with generated input, and checks each answer against the document;
# then does the same with the document that Keboola's contract serves. No call may be answered with 5xx.
#
#   tests/clients/schemathesis.sh FOREBAY [SCHEMATHESIS]
set -euo pipefail

forebay=$(realpath "$1")
SCHEMATHESIS_HOOKS=$(realpath "$(dirname "$0")/schemathesis_hooks.py")
export SCHEMATHESIS_HOOKS
schemathesis=${2:-schemathesis}
seconds=${SCHEMATHESIS_SECONDS:-60}
home=$(mktemp -d)
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$home"' EXIT
cd "$home"

touch out
"$forebay" serve --dev --data-dir data --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >out 2>log &
daemon=$!
for _ in $(seq 100); do
    grep -q '^ *try' out && break
    sleep 0.1
done
ingest=$(sed -n 's/^ *events *//p' out)
admin=$(sed -n 's/^ *admin *//p' out)
printf '{"n":1}\n' | curl -sSf --data-binary @- "$ingest/v0/events?name=t&wait=true" >/dev/null

# A drain would end the run, and a publication waits for the effects of other calls.
admin_paths='^/(admin/v1/|healthz|readyz|metrics|openapi)'
run() {
    printf '+ schemathesis run %s\n' "$*"
    "$schemathesis" run --no-color --max-time "$seconds" --phases examples,coverage,fuzzing \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
        --warnings off --suppress-health-check all "$@"
}
failed=0
all=$admin/openapi.json
run "$all" --url "$admin" --exclude-path /admin/v1/drain --include-path-regex "$admin_paths" || failed=1
run "$all" --url "$ingest" --exclude-path-regex "$admin_paths" || failed=1
run "$ingest/v1/documentation/openapi3.json" --url "$ingest" --header 'X-StorageApi-Token: any' || failed=1

if grep -E ' (panicked|ERROR) ' log; then
    echo 'the daemon logged an error' >&2
    failed=1
fi
if ! kill -0 "$daemon" 2>/dev/null; then
    echo 'the daemon has ended' >&2
    failed=1
fi
exit $failed
