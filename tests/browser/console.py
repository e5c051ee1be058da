"""The console in headless Chromium: python3 tests/browser/console.py target/debug/forebay

Signs in; creates a stream from a file; accepts a proposed field with another type; creates, uses and revokes a token;
and checks the stored rows with DuckDB.
"""

import gzip
import json
import pathlib
import shutil
import sys
import tempfile
import urllib.error
import urllib.request

import duckdb
from playwright.sync_api import expect, sync_playwright

from drive import ask, check, start

PATIENCE_MS = 60_000
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"


def post(said, token, body):
    request = urllib.request.Request(f"{said['events']}/v0/events?name=visits&wait=true", method="POST")
    request.add_header("Authorization", f"Bearer {token}")
    request.data = "\n".join(json.dumps(record) for record in body).encode()
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def sign_in(page, said):
    page.goto(said["admin"])
    page.get_by_label("Admin token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Admin token").fill(said["token"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator("#health")).to_have_text("ready")


def make_stream(page, directory):
    file = directory / "visits.ndjson.gz"
    records = [{"city": HOSTILE, "n": n, "price": f"{n}.50"} for n in range(1000)]
    file.write_bytes(gzip.compress("\n".join(json.dumps(record) for record in records).encode()))
    page.get_by_role("link", name="Streams").click()
    page.get_by_role("link", name="New stream").click()
    page.locator("#sample").set_input_files(file)
    expect(page.get_by_label("Name", exact=True)).to_have_value("visits")
    names = page.get_by_label("column name")
    expect(names).to_have_count(3)
    check("the columns of the file, in order", [names.nth(n).input_value() for n in range(3)],
          ["city", "n", "price"])
    types = page.get_by_label("column type")
    check("the detected column types", [types.nth(n).input_value() for n in range(3)], ["string", "int64", "string"])
    types.nth(1).fill("int32")
    page.get_by_role("button", name="Create stream").click()
    expect(page.get_by_role("heading", name="visits")).to_be_visible()
    expect(page.locator("main")).to_contain_text("int32")


def accept_proposal(page, said):
    check("records with a new field are accepted", post(said, said["token"], [{"n": 1, "temperature": 20}]), 200)
    ask(said, "POST", "/admin/v1/publish")
    page.reload()
    proposal = page.locator("#proposals")
    expect(proposal).to_contain_text("temperature")
    expect(proposal).to_contain_text("20")
    page.get_by_label("type of temperature").fill("float64")
    page.get_by_role("button", name="Accept selected").click()
    expect(page.locator("#proposals")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("float64")
    check("records with an unwanted field are accepted", post(said, said["token"], [{"n": 2, "noise": 1}]), 200)
    ask(said, "POST", "/admin/v1/publish")
    page.reload()
    expect(page.locator("#proposals")).to_contain_text("noise")
    page.get_by_role("button", name="Dismiss selected").click()
    expect(page.locator("#proposals")).to_have_count(0)
    check("records with the new column are accepted", post(said, said["token"], [{"n": 2, "temperature": 21.5}]), 200)
    check("a hostile value did not change the title", page.title(), "Forebay")


def use_token(page, said):
    page.get_by_role("link", name="Tokens").click()
    page.get_by_label("Name", exact=True).fill("page")
    page.get_by_label("Scopes").fill("ingest:visits")
    page.get_by_role("button", name="Create token").click()
    token = page.locator("#new-token code").text_content()
    check("the new token works", post(said, token, [{"n": 3}]), 200)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("row", name="page").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name="page")).to_have_count(0)
    check("the revoked token does not work", post(said, token, [{"n": 4}]), 403)


def run(binary):
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        directory = pathlib.Path(name)
        daemon, said = start(binary, directory, "")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        try:
            sign_in(page, said)
            make_stream(page, directory)
            accept_proposal(page, said)
            use_token(page, said)
            check("no script failed", problems, [])
            ask(said, "POST", "/admin/v1/publish")
            files = f"{directory}/data/tables/visits/**/*.parquet"
            query = """SELECT count(*), count(DISTINCT city), sum(n), max(temperature), typeof(any_value(n))
                       FROM read_parquet(?, union_by_name = true)"""
            check("the stored rows", duckdb.execute(query, [files]).fetchone(),
                  (1004, 1, sum(range(1000)) + 8, 21.5, "INTEGER"))
        finally:
            browser.close()
            daemon.terminate()
            check("the daemon exits", daemon.wait(timeout=60), 0)


if __name__ == "__main__":
    run(sys.argv[1])
