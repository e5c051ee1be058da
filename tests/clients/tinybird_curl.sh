#!/usr/bin/env bash
# curl as in the vendor's guide, against a new daemon with credentials.
#
#   tests/clients/tinybird_curl.sh FOREBAY
set -euo pipefail

forebay=$(realpath "$1")
home=$(mktemp -d)
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$home"' EXIT
cd "$home"
"$forebay" serve --data-dir data --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >out 2>log &
daemon=$!
for _ in $(seq 100); do
    grep -q '^ *try' out && break
    sleep 0.1
done
url=$(sed -n 's/^ *events *//p' out)
TOKEN=$(sed -n 's/^ *token *//p' out)

# Compares an answer's status and body with what is expected.
expect() {
    local what=$1 status=$2 body=$3
    shift 3
    found=$(curl -sS -o answer -w '%{http_code}' "$@")
    if [ "$found" != "$status" ] || ! grep -qF -- "$body" answer; then
        printf '%s: %s %s\n' "$what" "$found" "$(cat answer)" >&2
        exit 1
    fi
    printf 'ok  %s: %s %s\n' "$what" "$found" "$(cut -c1-100 answer)"
}

expect 'one event' 202 '{"successful_rows":1,"quarantined_rows":0}' \
    -H "Authorization: Bearer $TOKEN" \
    -d '{"date":"2020-04-05 00:05:38","city":"Chicago"}' "$url/v0/events?name=events_test"
expect 'several events' 202 '{"successful_rows":2,"quarantined_rows":0}' \
    -H "Authorization: Bearer $TOKEN" \
    -d $'{"date":"2020-04-05 00:05:38","city":"Chicago"}\n{"date":"2020-04-05 00:07:22","city":"Madrid"}\n' \
    "$url/v0/events?name=events_test"
expect 'wait' 200 '{"successful_rows":1,"quarantined_rows":0}' \
    -H "Authorization: Bearer $TOKEN" -d '{"city":"Madrid"}' "$url/v0/events?name=events_test&wait=true"
expect 'token in the query' 202 '"successful_rows":1' \
    -d '{"city":"Madrid"}' "$url/v0/events?name=events_test&token=$TOKEN"
for n in $(seq 20000); do printf '{"n":%s,"text":"some more of it to make the body large"}\n' "$n"; done >events.ndjson
expect 'over 1 MB, with Expect: 100-continue' 202 '"successful_rows":20000' \
    -H "Authorization: Bearer $TOKEN" --data-binary @events.ndjson "$url/v0/events?name=large"
expect 'chunked' 202 '"successful_rows":20000' \
    -H "Authorization: Bearer $TOKEN" -X POST -T - "$url/v0/events?name=large" <events.ndjson
gzip -k events.ndjson
expect 'gzip' 200 '"successful_rows":20000' \
    -H "Authorization: Bearer $TOKEN" -H 'Content-Encoding: gzip' --data-binary @events.ndjson.gz \
    "$url/v0/events?name=large&wait=true"
expect 'no name' 400 "The 'name' query parameter is required" \
    -H "Authorization: Bearer $TOKEN" -d '{"a":1}' "$url/v0/events"
expect 'no token' 403 'invalid authentication token' -d '{"a":1}' "$url/v0/events?name=events_test"

expect 'a data source' 200 '"error":false' \
    -H "Authorization: Bearer $TOKEN" -X POST "$url/v0/datasources?name=stocks&format=ndjson" \
    --data-urlencode 'schema=symbol String `json:$.symbol`, price Float32 `json:$.price`'
expect 'append a file' 200 '"quarantine_rows":0' \
    -H "Authorization: Bearer $TOKEN" -F 'ndjson=@-;filename=stocks.ndjson' \
    "$url/v0/datasources?name=stocks&mode=append&format=ndjson" <<<'{"symbol":"A","price":1.5}'
expect 'analyze a file' 200 '"recommended_type":"Int16"' \
    -H "Authorization: Bearer $TOKEN" -F file=@events.ndjson.gz "$url/v0/analyze"
expect 'alter, dry' 200 'ADD COLUMN `open` Nullable(Float32)' \
    -H "Authorization: Bearer $TOKEN" -X POST "$url/v0/datasources/stocks/alter?dry=true" --data-urlencode \
    'schema=symbol String `json:$.symbol`, price Float32 `json:$.price`, open Nullable(Float32) `json:$.open`'
expect 'list' 200 '"name":"stocks"' -H "Authorization: Bearer $TOKEN" "$url/v0/datasources"
