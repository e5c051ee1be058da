"""Pushes one event as the vendor's example does: python3 polaris_push.py TOKEN_HOST API_HOST TABLE_ID [form]

It starts without a token, sends `Bearer None`, gets 401, requests a token with client credentials, and retries as long as
it gets 401. Any other refusal ends it. Only the two addresses differ from the vendor's example. With `form`, it passes a
dictionary as the body to its HTTP client, which sends it as a form.
"""

import datetime
import json
import os
import sys

import requests

ORGANISATION = "example"


def fetch_token(token_host):
    url = f"{token_host}/auth/realms/{ORGANISATION}/protocol/openid-connect/token"
    form = {
        "client_id": os.environ["POLARIS_CLIENT_ID"],
        "client_secret": os.environ["POLARIS_CLIENT_SECRET"],
        "grant_type": "client_credentials",
    }
    answer = requests.post(url, headers={"Content-Type": "application/x-www-form-urlencoded"}, data=form)
    if answer.status_code != 200:
        raise RuntimeError(f"no token: {answer.status_code} {answer.text}")
    return answer.json()["access_token"]


def push(api_host, table_id, token, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return requests.post(f"{api_host}/v1/events/{table_id}", headers=headers, data=body)


def main(token_host, api_host, table_id, as_form=False):
    event = {"__time": datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None).isoformat(), "price": 1.5, "city": "Zürich"}
    body = event if as_form else json.dumps(event)
    token = None
    statuses = []
    while True:
        answer = push(api_host, table_id, token, body)
        statuses.append(answer.status_code)
        if answer.status_code == 401:
            if len(statuses) > 3:
                raise RuntimeError("a fresh token is refused as well")
            token = fetch_token(token_host)
            continue
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} {answer.text}")
        break
    if answer.text:
        raise RuntimeError(f"200 with a body: {answer.text!r}")
    print(json.dumps({"statuses": statuses, "event": event}))


if __name__ == "__main__":
    main(*sys.argv[1:4], as_form="form" in sys.argv[4:])
