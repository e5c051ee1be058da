"""Pages of other origins send events from headless Chromium: python3 tests/browser/drive.py target/debug/forebay

Serves page.html from two origins, of which one is allowed, and opens it in Chromium: over plain HTTP, where the
configuration allows the origin; over TLS, and so HTTP/2, where the token of the page allows it. Then checks what the
pages saw, and reads the stored rows with DuckDB.
"""

import http.server
import json
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import duckdb

PATIENCE = 120
PAGE = pathlib.Path(__file__).parent / "page.html"
STORED = ["beacon", "fetch", "gzip", "keepalive", "key", "simple", "xhr"]


def serve_page():
    """Serves the page on its own port, and so its own origin; the queue receives what the page reports."""
    reports = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = PAGE.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            reports.put(json.loads(body))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}", reports


def certificate(directory):
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    return f'[tls]\ncert = "{cert}"\nkey = "{key}"\n'


def start(binary, directory, config):
    """Starts the daemon as in production: with tokens."""
    (directory / "forebay.toml").write_text(config)
    command = [binary, "serve", "--config", directory / "forebay.toml", "--data-dir", directory / "data"]
    command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = {}
    for line in daemon.stdout:
        words = line.split()
        if len(words) == 2:
            said[words[0]] = words[1]
        if words[0] == "try":
            return daemon, said
    raise SystemExit("the daemon did not start")


def page_token(binary, said, origin):
    """Creates a token that works only for pages of this origin."""
    command = [binary, "token", "create", "page", "--scope", "ingest:pages", "--scope", "create"]
    command += ["--origin", origin, "--admin-url", said["admin"], "--token", said["token"]]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def visit(origin, reports, events, token):
    """Opens the page in a separate browser, and waits for its report."""
    parameters = urllib.parse.urlencode({"events": events, "token": token})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [shutil.which("chromium") or "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
        # The certificate is created for this run and signed by no authority.
        command += ["--ignore-certificate-errors", f"--user-data-dir={profile}", f"{origin}/?{parameters}"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return reports.get(timeout=PATIENCE)
        except queue.Empty:
            raise SystemExit(f"the page at {origin} did not report within {PATIENCE} s") from None
        finally:
            browser.terminate()
            browser.wait(timeout=PATIENCE)


def ask(said, method, path):
    request = urllib.request.Request(said["admin"] + path, method=method)
    request.add_header("Authorization", f"Bearer {said['token']}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def metric(said, line):
    lines = ask(said, "GET", "/metrics").splitlines()
    return next(int(text.split()[-1]) for text in lines if text.startswith(line))


def eventually(what, done):
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {PATIENCE} s")
        time.sleep(0.05)


def check(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"ok  {what}")


def check_allowed(seen):
    for name in ["fetch", "key", "simple", "keepalive"]:
        check(f"{name} is accepted", (seen[name].get("status"), seen[name]["body"]),
              (202, {"successful_rows": 1, "quarantined_rows": 0}))
        check(f"{name} may read the receipt", seen[name]["receipt"].isdecimal(), True)
    check("gzip is accepted and synced", seen["gzip"].get("status"), 200)
    check("xhr is accepted", seen["xhr"].get("status"), 202)
    check("the browser queues the beacon", seen["beacon"], {"queued": True})
    for name, status in [("no token", 403), ("bad token", 403), ("no record", 400), ("method", 405)]:
        check(f"the page can read the refusal of {name}", (seen[name].get("status"), "error" in seen[name]["body"]),
              (status, True))


def check_forbidden(seen, readable):
    for name, what in seen.items():
        # A page never learns the answer to a beacon.
        expected = {"queued": True} if name == "beacon" else {"error": "TypeError"}
        found = {"status": what.get("status")} if name in readable else what
        expected = {"status": readable[name]} if name in readable else expected
        check(f"{name} from an origin that is not allowed", found, expected)


def run(binary, tls):
    origin, reports = serve_page()
    stranger, stranger_reports = serve_page()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        config = certificate(directory) if tls else f'[server]\nallowed_origins = ["{origin}"]\n'
        daemon, said = start(binary, directory, config)
        token = page_token(binary, said, origin) if tls else said["token"]
        # Where the token decides, any page can read the refusal of a request whose token was not checked.
        readable = {"no token": 403, "bad token": 403, "method": 405} if tls else {}
        try:
            check("the URL scheme", said["events"].split(":")[0], "https" if tls else "http")
            check_allowed(visit(origin, reports, said["events"], token))
            accepted = "forebay_http_accepted_rows_total "
            eventually("the beacon's arrival", lambda: metric(said, accepted) == len(STORED))
            refused = 'forebay_http_refusals_total{reason="forbidden"}'
            before = metric(said, refused)
            seen = visit(stranger, stranger_reports, said["events"], token)
            check_forbidden(seen, readable)
            # Each request was refused, itself or at its preflight; the beacon too, which would be stored otherwise.
            forbidden = len(seen) - len(readable)
            eventually("the refusal of all requests", lambda: metric(said, refused) - before >= forbidden)
            ask(said, "POST", "/admin/v1/publish")
            files = f"{directory}/data/tables/pages/**/*.parquet"
            query = "SELECT DISTINCT page, way FROM read_parquet(?, union_by_name = true) ORDER BY way"
            rows = duckdb.execute(query, [files]).fetchall()
            check("the stored rows", rows, [(origin, way) for way in STORED])
            count = duckdb.execute("SELECT count(*) FROM read_parquet(?)", [files]).fetchone()
            check("each event is stored once", count, (len(STORED),))
        finally:
            daemon.terminate()
            check("the daemon exits", daemon.wait(timeout=PATIENCE), 0)


if __name__ == "__main__":
    for tls in (False, True):
        print(f"-- {'TLS, with a token for the origin' if tls else 'plain HTTP, with a list of origins'}")
        run(sys.argv[1], tls)
