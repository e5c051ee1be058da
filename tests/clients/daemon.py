"""Runs the daemon for the tests with vendors' clients: as in production, with credentials."""

import os
import subprocess
import urllib.request

import pyarrow.dataset


def check(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"ok  {what}: {found!r}")


class Daemon:
    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        command = [binary, "serve", "--data-dir", f"{directory}/data"]
        command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        environment = {**os.environ, "FOREBAY_COMPACTOR__MAX_IDLE": "1s"}
        log = open(f"{directory}/log", "w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        said = {}
        for line in self.process.stdout:
            words = line.split()
            if len(words) > 1:
                said[words[0]] = words[1]
            if words and words[0] == "try":
                break
        self.events, self.admin, self.token = said["events"], said["admin"], said["token"]

    def command(self, *arguments):
        command = [self.binary, *arguments, "--admin-url", self.admin]
        environment = {**os.environ, "FOREBAY_TOKEN": self.token}
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        return run.stdout.strip()

    def rows(self, table):
        request = urllib.request.Request(f"{self.admin}/admin/v1/publish", method="POST")
        request.add_header("Authorization", f"Bearer {self.token}")
        urllib.request.urlopen(request).close()
        dataset = pyarrow.dataset.dataset(f"{self.directory}/data/tables/{table}", partitioning="hive")
        return sorted(dataset.to_table().to_pylist(), key=lambda row: (row["_lsn"], row["_record"]))
