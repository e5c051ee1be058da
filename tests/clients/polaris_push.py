"""Pushes one event as the vendor's example does: python3 polaris_push.py TOKEN_HOST API_HOST TABLE_ID [form]

It begins without a token, sends `Bearer None`, is told 401, asks the token route for one with client credentials and
tries again for as long as it is told 401. Any other refusal ends it. Nothing in it knows what it talks to: only its two
addresses are said. With `form` it hands its HTTP client a dictionary as the body, which makes a form of it.
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
