#!/usr/bin/env bash
# Receivers and exports of Keboola's Buffer API with curl, against a new daemon with credentials.
#
#   tests/clients/keboola_curl.sh FOREBAY
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
admin=$(sed -n 's/^ *admin *//p' out)
TOKEN=$(sed -n 's/^ *token *//p' out)

# Compares an answer's status and body with what is expected.
expect() {
    local what=$1 status=$2 body=$3
    shift 3
    found=$(curl -sS -o answer -w '%{http_code}' "$@")
    # grep finds no line in an empty answer.
    if [ "$found" != "$status" ] || { [ -n "$body" ] && ! grep -qF -- "$body" answer; }; then
        printf '%s: %s %s\n' "$what" "$found" "$(cat answer)" >&2
        exit 1
    fi
    printf 'ok  %s: %s %s\n' "$what" "$found" "$(tr -s ' \n' ' ' <answer | cut -c1-100)"
}

# Waits for the end of a task.
finished() {
    local what=$1 result=$2 task
    task=$(sed -n 's/^ *"url": "\(.*\)",$/\1/p' answer)
    for _ in $(seq 50); do
        curl -sSf -H "X-StorageApi-Token: $TOKEN" "$task" >task
        grep -q '"isFinished": true' task && break
        sleep 0.1
    done
    if ! grep -qF -- "$result" task; then
        printf '%s: %s\n' "$what" "$(cat task)" >&2
        exit 1
    fi
    printf 'ok  %s: %s\n' "$what" "$result"
}

api() {
    local what=$1 status=$2 body=$3 method=$4 path=$5
    shift 5
    expect "$what" "$status" "$body" -X "$method" -H "X-StorageApi-Token: $TOKEN" "$@" "$url$path"
}

expect 'the service' 200 '"api": "buffer"' "$url/v1"
expect 'its health' 200 'OK' "$url/health-check"
expect 'its document' 200 '"openapi": "3.1.0"' "$url/v1/documentation/openapi3.json"
expect 'no token' 400 '\"X-StorageApi-Token\" is missing from header.' "$url/v1/receivers"
expect 'a wrong token' 401 'storage.tokenInvalid' -H 'X-StorageApi-Token: x' "$url/v1/receivers"

api 'a receiver with two exports' 202 '"status": "processing"' POST /v1/receivers -d '{
    "name": "My Receiver", "exports": [
        {"name": "Raw", "mapping": {"tableId": "in.c-main.raw", "columns": [
            {"type": "id", "name": "id", "primaryKey": true}, {"type": "datetime", "name": "at"},
            {"type": "ip", "name": "ip"}, {"type": "body", "name": "body"}, {"type": "headers", "name": "headers"}]}},
        {"name": "Mapped", "conditions": {"count": 2, "size": "1MB", "time": "1m"},
         "mapping": {"tableId": "in.c-main.mapped", "columns": [{"type": "template", "name": "both",
            "template": {"language": "jsonnet", "content": "Body(\"a\") + \":\" + Body(\"b\")"}}]}}]}'
finished 'the receiver is made' 'receiver created'
api 'the same again' 409 'buffer.receiverAlreadyExists' POST /v1/receivers -d '{"name": "my receiver"}'
api 'it is shown' 200 '"time": "1m0s"' GET /v1/receivers/my-receiver
import=$(sed -n 's/^ *"url": "\(.*\)",$/\1/p' answer)
expect 'an event as JSON' 200 '' -H 'Content-Type: application/json' -d '{"a": "x", "b": "y"}' "$import"
expect 'an event as a form' 200 '' -d 'a=x&b=z' "$import"
expect 'one that a template makes nothing of' 400 'path \"b\" not found in the body.' \
    -H 'Content-Type: application/json' -d '{"a": "x"}' "$import"
expect 'one of another type' 415 'buffer.unsupportedMediaType' -H 'Content-Type: text/plain' -d 'x' "$import"
expect 'a wrong secret' 404 'with given secret not found.' -d 'a=1' "${import%/*}/$(printf 'x%.0s' $(seq 48))"
curl -sSf -X POST -H "Authorization: Bearer $TOKEN" "$admin/admin/v1/publish" >/dev/null
for table in raw mapped; do
    files=$(find "data/tables/in.c-main.$table" -name '*.parquet' | wc -l)
    if [ "$files" = 0 ]; then
        echo "no file of the table $table" >&2
        exit 1
    fi
    printf 'ok  the table %s: %s file(s)\n' "$table" "$files"
done

api 'another export' 202 '"type": "export.create"' POST /v1/receivers/my-receiver/exports -d '{
    "name": "Third", "mapping": {"tableId": "in.c-main.raw", "columns": [{"type": "body", "name": "body"}]}}'
finished 'its table has other columns' 'columns of the table \"in.c-main.raw\" do not match expected'
api 'a change of conditions' 200 '"type": "export.update"' PATCH /v1/receivers/my-receiver/exports/raw \
    -d '{"conditions": {"time": "2h"}}'
finished 'the export is changed' 'export updated'
api 'a condition out of bounds' 400 '\"time\" must be 30s or greater.' \
    PATCH /v1/receivers/my-receiver/exports/raw -d '{"conditions": {"time": "1s"}}'
api 'an invalid template' 400 'Unknown variable: invalid.' PATCH /v1/receivers/my-receiver/exports/mapped \
    -d '{"mapping": {"tableId": "in.c-main.mapped", "columns": [{"type": "template", "name": "both",
        "template": {"language": "jsonnet", "content": "invalid"}}]}}'
api 'refreshed tokens' 200 '"id": "my-receiver"' POST /v1/receivers/my-receiver/tokens/refresh
api 'an export is deleted' 200 '' DELETE /v1/receivers/my-receiver/exports/mapped
api 'it is gone' 404 'buffer.exportNotFound' GET /v1/receivers/my-receiver/exports/mapped
expect 'what needs nothing of the body' 200 '' -H 'Content-Type: text/plain' -d 'x' "$import"
api 'the receiver is deleted' 200 '' DELETE /v1/receivers/my-receiver
expect 'it takes nothing any more' 404 'buffer.receiverNotFound' -d 'a=1' "$import"
