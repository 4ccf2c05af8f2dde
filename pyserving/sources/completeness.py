"""Whether everything that belongs to a version is in its folder, as far as its files tell.

TensorFlow Serving loads what it finds: a folder that is still being copied becomes a version that fails every request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from pyserving.sources.checkpoint_index import shard_sizes
from pyserving.sources.saved_model_file import SavedModelFile, read_pb, read_pbtxt
from pyserving.sources.snapshot import Snapshot
from pyserving.sources.storage import LOCAL, FileStat, Storage
from pyserving.sources.wire import Malformed

_PB, _PBTXT = "saved_model.pb", "saved_model.pbtxt"
_INDEX = "variables/variables.index"
_OTHER_CONTENTS = ("model.tflite", "model.py", "export.meta", "saved_model.cpb")
"""What a version may consist of instead of a graph file; nothing can be said of its parts."""
_BEING_WRITTEN = re.compile(
    r"(?:^|/)(?:"
    r"\.[^/]+\.[A-Za-z0-9]{6}"  # rsync
    r"|\.~tmp~/.*|\.rsync-partial/.*"
    r"|[^/]+\.(?:part|partial|filepart|tmp)|[^/]+_\.gstmp"
    r")$"
)
_T = TypeVar("_T")


class _Incomplete(Exception):
    """Carries the reason."""


def why_incomplete(path: str, snapshot: Snapshot, storage: Storage = LOCAL) -> str | None:
    """The first thing found missing in a version folder, for a person to read; None: it is all there."""
    try:
        _check(path, snapshot.files, storage)
    except _Incomplete as reason:
        return str(reason)
    return None


def _check(path: str, files: Mapping[str, FileStat], storage: Storage) -> None:
    for name in files:
        if _BEING_WRITTEN.search(name):
            raise _Incomplete(f"{name} is being written")
    has_variables_files = any(name.startswith("variables/") and not _is_hidden(name) for name in files)
    if _PB in files:
        look_for_variables = _INDEX not in files
        saved_model = _read(path, _PB, lambda pb: read_pb(pb, look_for_variables, storage))
    elif _PBTXT in files:
        saved_model = _read(path, _PBTXT, lambda pbtxt: read_pbtxt(pbtxt, storage))
    elif has_variables_files or not any(name in files for name in _OTHER_CONTENTS):
        raise _Incomplete(f"{_PB} is not there")
    else:
        return
    _check_assets(saved_model, files)
    if _INDEX in files:
        _check_shards(path, files, storage)
    elif has_variables_files or saved_model.has_variables:
        # TensorFlow's loader restores nothing when there is no index, and serves a graph without its values.
        raise _Incomplete(f"{_INDEX} is not there")


def _check_assets(saved_model: SavedModelFile, files: Mapping[str, FileStat]) -> None:
    for name in saved_model.asset_files:
        if f"assets/{name}" not in files:
            raise _Incomplete(f"assets/{name} is not there")


def _check_shards(path: str, files: Mapping[str, FileStat], storage: Storage) -> None:
    for ending, size in _read(path, _INDEX, lambda index: shard_sizes(index, storage)).items():
        shard = f"variables/variables.{ending}"
        if shard not in files:
            raise _Incomplete(f"{shard} is not there")
        if files[shard].size < size:
            raise _Incomplete(f"{shard} has {files[shard].size} of {size} bytes")


def _read(path: str, name: str, read: Callable[[str], _T]) -> _T:
    try:
        return read(os.path.join(path, name))
    except Malformed as error:
        raise _Incomplete(f"{name} is not whole: {error}") from None
    except OSError as error:
        raise _Incomplete(f"{name} cannot be read: {error.strerror}") from None


def _is_hidden(name: str) -> bool:
    return os.path.basename(name).startswith(".")
