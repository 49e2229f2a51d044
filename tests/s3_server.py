"""An S3 on this machine: moto's server, which keeps all in memory and loses it when it ends."""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

BUCKET = "runs"


def whats_lacking() -> str | None:
    """Return why there can be none here."""
    missing = [one for one in ("moto", "flask", "s3fs") if importlib.util.find_spec(one) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class S3:
    """A server; its clients find it by `env`."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.env = {
            **os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env=self.env, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                self._make_bucket()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < until, self._log.read_text()
                time.sleep(0.1)

    def refuse_after(self, n_requests: int | None) -> None:
        """Answer so many more requests, and then none with any rights; None: all."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            n = 10**9 if n_requests is None else n_requests
            connection.request("POST", "/moto-api/reset-auth", body=str(n))
            assert connection.getresponse().status == 200
        finally:
            connection.close()

    def down(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def names(self) -> list[str]:
        """Return what lies in the bucket."""
        import boto3

        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        url = self.env["AWS_ENDPOINT_URL"]
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        return [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def _make_bucket(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("PUT", f"/{BUCKET}")
            assert connection.getresponse().status == 200
        finally:
            connection.close()
