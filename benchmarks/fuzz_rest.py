"""Mutated HTTP requests against a server, a million if need be: none may be answered with a status of 5xx that
TensorFlow Serving's contract does not give, and the server may neither die nor grow.

    python benchmarks/fuzz_rest.py --requests=1000000

starts a server of a small model (exported to a temporary folder) and prints what came back.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BODIES = (
    b'{"instances": [1.0, 2.0, 5.0]}',
    b'{"signature_name": "serving_default", "instances": [{"x": 1.0}, {"x": [2.0]}]}',
    b'{"inputs": {"x": [[1, 2], [3, -4.5e-3]]}}',
    b'{"inputs": [NaN, -Infinity, 1e30, 0.1]}',
    b'{"signature_name": "regress_x_to_y", "examples": [{"x": 80.0, "name": "a"}, {"x": [3.0], "b": {"b64": "aGk="}}]}',
    b'{"signature_name": "classify_x_to_y", "context": {"x": 1.0}, "examples": [{"x2": 2.0}, {}]}',
    b'{"instances": ["a\\u00e9\\ud83d\\ude00", {"b64": "//79"}, [[], [null, true, false]]]}',
)
REST_TARGETS = (
    b"/v1/models/m:predict",
    b"/v1/models/m/versions/1:predict",
    b"/v1/models/m/labels/stable:predict",
    b"/v1/models/m:regress",
    b"/v1/models/m:classify",
    b"/v1/models/m",
    b"/v1/models/m/metadata",
    b"/v1/models/m/versions/1/metadata",
    b"/v1/models",
)
TARGETS = (*REST_TARGETS, b"/monitoring/prometheus/metrics", b"/readyz", b"/openapi.json")
METHODS = (b"POST", b"POST", b"POST", b"GET", b"GET", b"OPTIONS", b"HEAD", b"PUT", b"TRACE")
FIELDS = (
    b"Host: localhost",
    b"Content-Type: application/json",
    b"Content-Type: application/x-protobuf",
    b"Accept-Encoding: gzip",
    b"Content-Encoding: gzip",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Expect: 100-continue",
    b"Origin: http://a",
    b"Transfer-Encoding: chunked",
)
NUMBERS = (
    b"0",
    b"-0",
    b"-0.0",
    b"1e999",
    b"1e308",
    b"4e-324",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1" * 400,
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'""',
)
ALLOWED = {501, 504}
"""501: a method, or a type that JSON has no values of; 504: a run that took too long."""
_BEGINNING = b"/v1/models"
_NO_URI = re.compile(rb"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) [A-Z][A-Za-z -]+\r\n")


def mutated(text: bytes, rng: random.Random) -> bytes:
    """The text with a few of its bytes, pieces and numbers changed."""
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(text) + 1)
        piece = text[at : at + rng.randrange(1, 12)]
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[at + len(piece) :]
        elif kind == 2:
            text = text[:at] + piece * rng.choice((2, 3, 300)) + text[at:]
        elif kind == 3:
            text = text[:at] + rng.choice((b"[", b"{", b"}", b"]", b'"', b",", b":", b"\\u", b"\r\n")) + text[at:]
        elif kind == 4:
            text = text[:at] + rng.choice(BODIES)[rng.randrange(20) :] + text[at:]
        else:
            numbers = list(_NUMBER.finditer(text))
            if numbers:
                number = rng.choice(numbers)
                text = text[: number.start()] + rng.choice(NUMBERS) + text[number.end() :]
    return text


def well_framed(rng: random.Random) -> bytes:
    """A request of which the body, and sometimes the target, is mutated; what it claims to be is true."""
    body, target = mutated(rng.choice(BODIES), rng), rng.choice(REST_TARGETS)
    fields = [FIELDS[0]]
    if rng.random() < 0.1:
        rest = mutated(target.removeprefix(_BEGINNING), rng)
        target = _BEGINNING + _NO_URI.sub(b"%41", rest)
    if rng.random() < 0.1:
        body = gzip.compress(body, 1)
        body = mutated(body, rng) if rng.random() < 0.5 else body
        fields.append(b"Content-Encoding: gzip")
    elif rng.random() < 0.1:
        fields.append(b"Content-Type: application/x-protobuf")
    method = b"POST" if rng.random() < 0.9 else b"GET"
    return _request(method, target, [*fields, b"Content-Length: %d" % len(body)], body)


def ill_framed(rng: random.Random) -> bytes:
    """A request mutated as a whole."""
    fields = rng.sample(FIELDS, rng.randrange(4))
    body = rng.choice(BODIES)
    if rng.random() < 0.7:
        fields.append(b"Content-Length: %d" % (len(body) + rng.choice((0, 0, 0, -1, 1, 1000))))
    return mutated(_request(rng.choice(METHODS), rng.choice(TARGETS), fields, body), rng)


def _request(method: bytes, target: bytes, fields: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *fields, b"", body])


def streams(rng: random.Random, requests: int) -> Iterator[tuple[bytes, int]]:
    """What one connection each sends, and how many requests it was made of."""
    while requests > 0:
        if rng.random() < 0.5:
            count = min(requests, rng.randrange(1, 64))
            yield b"".join(well_framed(rng) for _ in range(count)), count
        else:
            count = 1
            yield ill_framed(rng), count
        requests -= count


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in _STATUS.findall(said)]


async def _exchange(port: int, stream: bytes) -> bytes:
    """All that the server says to the stream and its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(stream)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:  # it has read enough
        return b""
    finally:
        writer.close()


async def fuzz(port: int, requests: int, seed: int, connections: int = 8) -> Counter[int]:
    """How often each status came."""
    work = streams(random.Random(seed), requests)
    seen: Counter[int] = Counter()

    async def client() -> None:
        for stream, _ in work:
            found = statuses(await _exchange(port, stream))
            seen.update(found)
            if wrong := {status for status in found if status >= 500} - ALLOWED:
                print(f"status {wrong} in the answers to {stream!r}")

    await asyncio.gather(*(client() for _ in range(connections)))
    return seen


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / (1 << 20)


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    sys.exit("the server did not start")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--port", type=int, default=8591)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, str(ROOT))
        from tests.models import half_plus_two

        (Path(folder) / "m").mkdir()
        half_plus_two(Path(folder) / "m" / "1")
        flags = ["--port=0", f"--grpc_socket_path={folder}/s", f"--rest_api_port={given.port}"]
        command = [sys.executable, "-m", "pyserving", *flags, "--model_name=m", f"--model_base_path={folder}/m"]
        server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            _wait_for(server, "Exporting HTTP/REST API")
            asyncio.run(fuzz(given.port, min(given.requests, 2000), given.seed + 1))  # what grows once grows now
            before, began = _resident_mib(server.pid), time.monotonic()
            seen = asyncio.run(fuzz(given.port, given.requests, given.seed))
            seconds, after = time.monotonic() - began, _resident_mib(server.pid)
            is_up = server.poll() is None
        finally:
            server.kill()
            server.wait()
    wrong = {status: count for status, count in seen.items() if status >= 500 and status not in ALLOWED}
    print(f"{given.requests} requests in {seconds:.0f} s, {sum(seen.values())} answers: {dict(sorted(seen.items()))}")
    print(f"memory {before:.0f} MiB, then {after:.0f} MiB; the server is {'up' if is_up else 'DOWN'}")
    print(f"GATE no unforeseen 5xx: {'pass' if not wrong else f'FAIL {wrong}'}")
    print(f"GATE up, and no more than 200 MiB more: {'pass' if is_up and after - before < 200 else 'FAIL'}")
    return 1 if wrong or not is_up or after - before >= 200 else 0


if __name__ == "__main__":
    sys.exit(main())
