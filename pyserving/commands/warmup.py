"""Make a model's warm-up requests of logged ones: one for each kind that clients send, the most frequent first.

Requests are of one kind when they ask the same signature for the same outputs with tensors of the same types and
shapes, or with as many examples. MODEL_DIR is a version's folder, or a base path, whose newest version is meant.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Hashable, Iterable
from itertools import chain
from pathlib import Path

from pyserving import protos
from pyserving.codec import tf_record
from pyserving.commands.progress import counted
from pyserving.commands.table import add_json_argument, as_json, table
from pyserving.commands.version_folder import version_folder
from pyserving.errors import InvalidArgument
from pyserving.request_log import reader
from pyserving.request_log.reader import LoggedCall

EXAMPLES = ["pyserving warmup /logs/my_model-*.tfrecord /models/my_model"]

_REQUESTS_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_RECORDS = 1000
"""A version with more of them is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="TFRecord files of PredictionLogs")
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="the model's folder")
    parser.add_argument("--max_records", type=int, default=100, metavar="N", help="at most 1000 (default: 100)")
    parser.add_argument("--model", help="take only requests to the model of this name")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.max_records <= _MOST_RECORDS:
        raise InvalidArgument(f"--max_records must be from 1 to {_MOST_RECORDS}; was {arguments.max_records}")
    version = version_folder(arguments.model_dir)
    calls: Iterable[LoggedCall] = chain.from_iterable(reader.calls(file, may_be_cut=True) for file in arguments.files)
    if arguments.model is not None:
        calls = (call for call in calls if all(spec.name == arguments.model for spec in call.model_specs))
    chosen = choose(counted(calls, "reading"), arguments.max_records)
    if not chosen:
        raise InvalidArgument("no file holds a request to be replayed")
    path = version / _REQUESTS_FILE
    write(path, [_request_alone(call) for call, _ in chosen])
    rows = [_row(call, count) for call, count in chosen]
    if arguments.json:
        named = [dict(zip(("method", "signature", "like_it", "record"), row, strict=True)) for row in rows]
        print(as_json({"file": str(path), "requests": named}))
    else:
        texts = [(method, signature, f"{count:,}", record) for method, signature, count, record in rows]
        print(table(("method", "signature", "like it", "record"), texts))
        print(f"\n{len(chosen)} requests in {path}")
    return 0


def choose(calls: Iterable[LoggedCall], most: int) -> list[tuple[LoggedCall, int]]:
    """The first request of each kind, and how many there are of it, the most frequent kinds first."""
    firsts: dict[Hashable, LoggedCall] = {}
    counts: Counter[Hashable] = Counter()
    for call in calls:
        kind = kind_of(call)
        firsts.setdefault(kind, call)
        counts[kind] += 1
    return [(firsts[kind], count) for kind, count in counts.most_common(most)]


def kind_of(call: LoggedCall) -> Hashable:
    """What is prepared apart for a request."""
    signatures = tuple(spec.signature_name for spec in call.model_specs)
    request = call.request
    if call.api == "Predict":
        tensors = ((alias, t.dtype, t.tensor_shape.SerializeToString()) for alias, t in request.inputs.items())
        return call.api, signatures, tuple(sorted(tensors)), tuple(sorted(request.output_filter))
    kind = request.input.WhichOneof("kind")
    return call.api, signatures, len(getattr(request.input, kind).examples) if kind else 0


def write(path: Path, records: Iterable[bytes]) -> None:
    """All records, or the file that was there before."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.writelines(map(tf_record.framed, records))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _request_alone(call: LoggedCall) -> bytes:
    log = protos.PredictionLog()
    log.CopyFrom(call.log)
    log.ClearField("log_metadata")
    getattr(log, log.WhichOneof("log_type") or "").ClearField("response")
    return log.SerializeToString()


def _row(call: LoggedCall, count: int) -> tuple[str, str, int, str]:
    signatures = ", ".join(spec.signature_name or "serving_default" for spec in call.model_specs)
    return call.api, signatures, count, call.place
