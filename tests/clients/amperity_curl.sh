#!/usr/bin/env bash
# The requests of Amperity's documentation with curl, as a Postman collection would send them, against a daemon with keys.
#
#   tests/clients/amperity_curl.sh FOREBAY
set -euo pipefail

forebay=$(realpath "$1")
work=$(mktemp -d)
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$work"' EXIT
"$forebay" serve --data-dir "$work/data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do
    grep -q '^ *try' "$work/out" && break
    sleep 0.1
done
ingest=$(sed -n 's/^ *events *//p' "$work/out")
admin=$(sed -n 's/^ *admin *//p' "$work/out" | awk '{print $1}')
admin_token=$(sed -n 's/^ *token *//p' "$work/out")
stream=is-CurlCurl1

say() { printf '%s\n' "$*" >&2; }
# expect STATUS NAME curl-arguments...: the body is in $work/body, the headers in $work/head.
expect() {
  local want=$1 name=$2
  shift 2
  local got
  got=$(curl -sS -o "$work/body" -D "$work/head" -w '%{http_code}' "$@")
  if [ "$got" != "$want" ]; then
    say "$name: $got instead of $want"
    cat "$work/head" "$work/body" >&2
    exit 1
  fi
  say "ok $got $name"
}
field() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/body" "$1"; }
as_admin=(-H "Authorization: Bearer $admin_token" -H 'Content-Type: application/json')
tenant=(-H 'X-Amperity-Tenant: acme')

expect 201 'an API key' "${as_admin[@]}" -d '{"name":"curl","roles":["streaming-ingest-api:write"],"project":"acme"}' \
  "$admin/admin/v1/clients"
key=$(field client_id) secret=$(field client_secret)
expect 201 'an issuer' "${as_admin[@]}" -d '{"name":"issuer","roles":["api-token-issuer"],"project":"acme"}' \
  "$admin/admin/v1/clients"
issuer=$(field client_id)
expect 201 "the issuer's token" "${as_admin[@]}" -d '{"days":1}' "$admin/admin/v1/clients/$issuer/tokens"
issuer_token=$(field token)
expect 201 'a token for 30 days' "${as_admin[@]}" -d '{"days":30}' "$admin/admin/v1/clients/$key/tokens"
token=$(field token)
auth=(-H "Authorization: Bearer $token")
json=(-H 'Content-Type: application/json')
xml=(-H 'Content-Type: application/xml')
url=$ingest/stream/v0/data/$stream

expect 202 'a JSON object' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '{"order_id":"o-1","email":"a@example.com"}' "$url"
grep -qi '^x-request-id: ..*' "$work/head" && [ ! -s "$work/body" ]
expect 202 'with a request id' "${tenant[@]}" "${auth[@]}" "${json[@]}" -H 'X-Request-Id: r-1' -d '{}' "$url"
grep -qi '^x-request-id: r-1' "$work/head"
expect 202 'XML' "${tenant[@]}" "${auth[@]}" "${xml[@]}" \
  -d '<records><record id="1"><name>Ann</name></record><record id="2"/></records>' "$ingest/stream/v0/data/is-CurlXml01"
expect 202 'XML that cannot be read' "${tenant[@]}" "${auth[@]}" "${xml[@]}" -d '<records><record>' \
  "$ingest/stream/v0/data/is-CurlXml01"
expect 202 'an event' -H 'Amperity-Tenant: acme' "${auth[@]}" "${json[@]}" -d '{"type":"order"}' "$ingest/prof/events/$stream"

expect 400 'an array' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '[{"a":1}]' "$url"
expect 400 'two objects' "${tenant[@]}" "${auth[@]}" "${json[@]}" --data-binary $'{"a":1}\n{"a":2}' "$url"
expect 400 'nothing' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '' "$url"
expect 400 'another type' "${tenant[@]}" "${auth[@]}" -H 'Content-Type: text/csv' -d 'a,b' "$url"
expect 400 'the other payload' "${tenant[@]}" "${auth[@]}" "${xml[@]}" -d '<r><a/></r>' "$url"
expect 400 'a malformed id' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '{}' "$ingest/stream/v0/data/nothing"
expect 400 'no tenant' "${auth[@]}" "${json[@]}" -d '{}' "$url"
expect 401 'no token' "${tenant[@]}" "${json[@]}" -d '{}' "$url"
expect 401 'a token of nobody' "${tenant[@]}" "${json[@]}" -H 'Authorization: Bearer eyJhbGciOiJub25lIn0.e30.' -d '{}' "$url"
expect 403 'another tenant' -H 'X-Amperity-Tenant: other' "${auth[@]}" "${json[@]}" -d '{}' "$url"
expect 403 'no right to write' "${tenant[@]}" "${json[@]}" -H "Authorization: Bearer $issuer_token" -d '{}' "$url"
expect 404 'no such stream' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '{}' "$ingest/prof/events/esm-NotThere"
expect 405 'GET' "${tenant[@]}" "${auth[@]}" "$url"
expect 411 'no length' "${tenant[@]}" "${auth[@]}" "${json[@]}" -H 'Transfer-Encoding: chunked' -d '{}' "$url"
head -c 5242881 /dev/zero | tr '\0' ' ' >"$work/large"
expect 413 'too large' "${tenant[@]}" "${auth[@]}" "${json[@]}" -H 'Expect:' --data-binary "@$work/large" "$url"

expires=$(date -u -d '+2 days' +%Y-%m-%dT%H:%M:%SZ)
expect 200 'a token by an issuer' "${tenant[@]}" "${json[@]}" -H "Authorization: Bearer $issuer_token" \
  -d "{\"expires-at\":\"$expires\"}" "$ingest/api/v0/admin/api-keys/$key/tokens"
[ "$(field expires-at)" = "$expires" ]
expect 202 'which is good' "${tenant[@]}" -H "Authorization: Bearer $(field token)" "${json[@]}" -d '{}' "$url"
expect 200 'client credentials' "${tenant[@]}" -d grant_type=client_credentials -d "client_id=$key" \
  -d "client_secret=$secret" "$ingest/api/v0/oauth2/token"
expect 202 'whose token is good' "${tenant[@]}" -H "Authorization: Bearer $(field access_token)" "${json[@]}" -d '{}' "$url"

expect 201 'a rotation' "${as_admin[@]}" -d '{}' "$admin/admin/v1/clients/$key/secrets"
expect 202 'the token before it' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '{}' "$url"
expect 200 'revoked' -X DELETE "${as_admin[@]}" "$admin/admin/v1/clients/$key/secrets"
expect 401 'is not good any more' "${tenant[@]}" "${auth[@]}" "${json[@]}" -d '{}' "$url"
say 'Amperity with curl: all as documented'
