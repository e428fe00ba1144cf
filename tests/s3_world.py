"""A real S3 server on loopback (SeaweedFS), and a listener that answers like a store that fails."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY, SECRET, BUCKET = "test-key", "test-secret", "champions"
MOST_SECONDS_TO_START = 120.0
IDENTITIES = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}
_PORT_OPTIONS = (
    "-s3.port",
    "-s3.port.iceberg",
    "-s3.port.grpc",
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-admin.port",
    "-admin.port.grpc",
)


@dataclass(frozen=True)
class S3:
    """Where the server listens."""

    endpoint: str

    def into(self, environment: pytest.MonkeyPatch, secret: str = SECRET) -> None:
        """Set the standard AWS environment to this server."""
        environment.setenv("AWS_ENDPOINT_URL", self.endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", secret)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_MAX_ATTEMPTS", "2")


@contextmanager
def serving_s3(folder: Path) -> Iterator[S3]:
    """Run `weed mini` with one bucket until the block ends."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    weed = Path(sys.executable).with_name("weed")
    identities = folder / "identities.json"
    identities.write_text(json.dumps(IDENTITIES))
    ports = dict(zip(_known(weed), free_ports(len(_known(weed))), strict=True))
    options = [f"{name}={port}" for name, port in ports.items()]
    command = [str(weed), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={identities}"]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-admin.ui=false", "-webdav=false", *options], stdout=log, stderr=log, start_new_session=True
        )
    endpoint = f"http://127.0.0.1:{ports['-s3.port']}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )
    try:
        until = time.monotonic() + MOST_SECONDS_TO_START
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                break
            except (BotoCoreError, ClientError):
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError((folder / "weed.log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.2)
        yield S3(endpoint)
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _known(weed: Path) -> list[str]:
    """The port options that this weed has."""
    done = subprocess.run([str(weed), "help", "mini"], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).split()
    return [option for option in _PORT_OPTIONS if option in words]


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def failing_s3(status: int | None) -> Iterator[S3]:
    """Answer every request with a status, or cut the connection where it is None."""

    class Failing(_Handler):
        def answer(self) -> None:
            self.fail(status)

    with _listening(Failing) as s3:
        yield s3


class Failures:
    """What becomes of the requests to a store: `num_answered` are passed on, the later ones fail as `failing_s3` has it.

    asked  method and path of all requests so far
    """

    def __init__(self, status: int | None) -> None:
        self.num_answered = sys.maxsize
        self.num_asked = 0
        self.asked: list[tuple[str, str]] = []
        self._status = status
        self._lock = threading.Lock()

    def begin(self, num_answered: int) -> None:
        """Count anew, and let only so many requests through."""
        self.num_asked, self.num_answered = 0, num_answered

    @contextmanager
    def between(self, behind: S3) -> Iterator[S3]:
        """Stand between clients and the server `behind`."""
        failures = self

        class Passing(_Handler):
            def answer(self) -> None:
                with failures._lock:
                    failures.num_asked += 1
                    failures.asked.append((self.command, self.path))
                    is_failing = failures.num_asked > failures.num_answered
                if is_failing:
                    self.fail(failures._status)
                else:
                    self.pass_on(behind)

        with _listening(Passing) as s3:
            yield s3


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def fail(self, status: int | None) -> None:
        """Answer with a status, or hang up."""
        self.close_connection = True
        if status is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = b"<Error><Code>ServiceUnavailable</Code><Message>closed</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def pass_on(self, behind: S3) -> None:
        """Ask the server behind the same, and give its answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection(behind.endpoint.removeprefix("http://"), timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "connection"):
                connection.putheader(name, value)
        connection.endheaders(body)
        said = connection.getresponse()
        content = said.read()
        self.send_response(said.status)
        for name, value in said.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = said.getheader("Content-Length") or "0" if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def _listening(handler: type[_Handler]) -> Iterator[S3]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield S3(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
