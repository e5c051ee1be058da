#!/usr/bin/env bash
# The vendor's command lines against a new daemon: list, append, analyze.
#
#   tests/clients/tinybird_cli.sh FOREBAY TB TB_FORWARD
#
# TB is `tb` from the PyPI package tinybird-cli, TB_FORWARD is `tb` from the package tinybird.
set -euo pipefail

forebay=$(realpath "$1")
classic=$(realpath "$2")
forward=$(realpath "$3")
home=$(mktemp -d)
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$home"' EXIT
cd "$home"
export HOME="$home" TB_CLI_TELEMETRY_OPTOUT=1 TB_VERSION_WARNING=0
FOREBAY_COMPACTOR__MAX_IDLE=1s "$forebay" serve --data-dir data --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >out 2>log &
daemon=$!
for _ in $(seq 100); do
    grep -q '^ *try' out && break
    sleep 0.1
done
url=$(sed -n 's/^ *events *//p' out)
token=$(sed -n 's/^ *token *//p' out)

# Runs a command and searches its output for a text.
expect() {
    local text=$1
    shift
    if ! "$@" >said 2>&1 </dev/null || ! grep -qF -- "$text" said; then
        printf '%s\n' "$*" "instead of: $text" >&2
        cat said log >&2
        exit 1
    fi
    printf 'ok  %s\n' "$text"
}

curl -sSf -H "Authorization: Bearer $token" -X POST "$url/v0/datasources?name=ev&format=ndjson" \
    --data-urlencode 'schema=a Int16 `json:$.a`, s String `json:$.s`' >/dev/null
printf '{"a":1,"s":"x"}\n{"a":2,"s":"y"}\n' >ev.ndjson
printf 'a,s\n3,z\n' >ev.csv
gzip -k ev.ndjson

old=("$classic" --host "$url" --token "$token" datasource)
expect 'name: ev' "${old[@]}" ls
expect 'Total rows in ev: 2' "${old[@]}" append ev ev.ndjson
expect 'Total rows in ev: 3' "${old[@]}" append ev ev.csv
expect 'Append import completed' "${old[@]}" append --experimental use_v1 --wait ev ev.ndjson.gz
expect 'a Int16 `json:$.a`, s String `json:$.s`' "${old[@]}" analyze ev.ndjson

new=("$forward" --cloud --host "$url" --token "$token" datasource)
expect 'row_count: 5' "${new[@]}" ls
expect 'Rows appended!' "${new[@]}" append ev --file ev.ndjson
expect '1 row appended!' "${new[@]}" append ev --events '{"a":9,"s":"e"}'
expect 'row_count: 8' "${new[@]}" ls
