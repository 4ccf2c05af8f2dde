"""An S3 of the test's own on loopback: ListObjectsV2, HeadObject and GetObject with ranges, and trouble on demand."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Stored(NamedTuple):
    data: bytes
    time: float
    etag: str


class FakeS3:
    """Buckets as dicts; `with` serves them."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.requests: list[str] = []
        """`LIST prefix`, `HEAD key` and `GET key`, in the order they came."""
        self.denied: set[str] = set()
        """Buckets."""
        self.access_key = "key-of-the-test"
        """Nobody else is let in."""
        self.page_size = 1000
        self.hanging: set[str] = set()
        """Keys of objects that are not given out before the end."""
        self._is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeS3:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, bucket: str, key: str, data: bytes, etag: str | None = None) -> None:
        tag = hashlib.md5(data, usedforsecurity=False).hexdigest() if etag is None else etag
        self.buckets.setdefault(bucket, {})[key] = Stored(data, time.time(), tag)

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def wait_for_the_end(self) -> None:
        self._is_over.wait(60)

    def count(self, kind: str) -> int:
        return sum(request.startswith(kind) for request in self.requests)


def _handler(store: FakeS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            bucket, _, key = unquote(address.path).lstrip("/").partition("/")
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            kind = "LIST" if "list-type" in query else "HEAD" if self.command == "HEAD" else "GET"
            store.requests.append(f"{kind} {key or query.get('prefix', '')}")
            if f"Credential={store.access_key}/" not in self.headers.get("Authorization", ""):
                self._refuse(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")
            elif bucket in store.denied:
                self._refuse(403, "AccessDenied", "Access Denied")
            elif bucket not in store.buckets:
                self._refuse(404, "NoSuchBucket", "The specified bucket does not exist")
            elif kind == "LIST":
                self._list(store.buckets[bucket], query)
            elif key in store.buckets[bucket]:
                if kind == "GET" and key in store.hanging:
                    store.wait_for_the_end()
                self._give(store.buckets[bucket][key])
            else:
                self._refuse(404, "NoSuchKey", "The specified key does not exist.")

        def _list(self, objects: dict[str, Stored], query: dict[str, str]) -> None:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            rows: dict[str, str] = {}
            for key, stored in sorted(objects.items()):
                if not key.startswith(prefix):
                    continue
                head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                if found:
                    folder = escape(prefix + head + delimiter)
                    rows[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
                else:
                    when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.time))
                    rows[key] = (
                        f"<Contents><Key>{escape(key)}</Key><LastModified>{when}</LastModified>"
                        f"<ETag>&quot;{stored.etag}&quot;</ETag><Size>{len(stored.data)}</Size></Contents>"
                    )
            start = int(query.get("continuation-token", "0"))
            end = start + min(store.page_size, int(query.get("max-keys", "1000")))
            page = list(rows.values())[start:end]
            more = end < len(rows)
            token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
            self._answer(
                200,
                f"<ListBucketResult><KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
                f"{token}{''.join(page)}</ListBucketResult>".encode(),
                {"Content-Type": "application/xml"},
            )

        def _give(self, stored: Stored) -> None:
            headers = {"ETag": f'"{stored.etag}"', "Last-Modified": formatdate(stored.time, usegmt=True)}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if wanted is None:
                self._answer(200, stored.data, headers)
                return
            start, last = int(wanted[1]), int(wanted[2])
            headers["Content-Range"] = f"bytes {start}-{last}/{len(stored.data)}"
            self._answer(206, stored.data[start : last + 1], headers)

        def _refuse(self, status: int, code: str, message: str) -> None:
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self._answer(status, body, {"Content-Type": "application/xml"})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(ConnectionError):  # the client is gone
                    self.wfile.write(body)

    return Handler
