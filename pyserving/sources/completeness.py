"""Whether everything that belongs to a version is in its folder, as far as its files tell.

TensorFlow Serving loads what it finds: a folder that is still being copied becomes a version that fails every request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from pyserving.sources.checkpoint_index import shard_sizes
from pyserving.sources.saved_model_file import SavedModelFile, read_pb, read_pbtxt
from pyserving.sources.snapshot import Snapshot
from pyserving.sources.storage import LOCAL, FileStat, Storage
from pyserving.sources.tflite_file import check_tflite
from pyserving.sources.wire import Malformed

_PB, _PBTXT = "saved_model.pb", "saved_model.pbtxt"
_INDEX = "variables/variables.index"
_TFLITE = "model.tflite"
_PYTHON = "model.py"
_OTHER_CONTENTS = ("export.meta", "saved_model.cpb")
"""What a version may consist of instead of a graph file; nothing can be said of its parts."""
_BEING_WRITTEN = re.compile(
    r"(?:^|/)(?:"
    r"\.[^/]+\.[A-Za-z0-9]{6}"  # rsync
    r"|\.~tmp~/.*|\.rsync-partial/.*"
    r"|[^/]+\.(?:part|partial|filepart|tmp)|[^/]+_\.gstmp"
    r")$"
)
_T = TypeVar("_T")


class Incomplete(NamedTuple):
    """What is wrong with a version folder."""

    reason: str
    """The first thing found missing, for a person to read."""
    is_lasting: bool = True
    """It stays wrong for as long as the folder looks as it does; not so when reading it failed."""
    would_hang: bool = False
    """Who loads the folder may never come back."""


class _Missing(Exception):
    """Carries what it is."""

    def __init__(self, reason: str, *, is_lasting: bool = True, would_hang: bool = False) -> None:
        self.incomplete = Incomplete(reason, is_lasting, would_hang)


def why_incomplete(
    path: str, snapshot: Snapshot, storage: Storage = LOCAL, *, prefer_tflite_model: bool = False
) -> Incomplete | None:
    """What is missing in a version folder; None: it is all there.

    `prefer_tflite_model`: where there is a `model.tflite`, nothing else will be loaded.
    """
    try:
        _check_specials(snapshot.specials)
        _check(path, snapshot.files, storage, prefer_tflite_model)
    except _Missing as missing:
        return missing.incomplete
    return None


def _check_specials(specials: Iterable[str]) -> None:
    for name in specials:
        if not _is_hidden(name):
            raise _Missing(f"{name} is neither a file nor a folder", would_hang=True)


def _check(path: str, files: Mapping[str, FileStat], storage: Storage, prefer_tflite_model: bool) -> None:
    for name in files:
        if _BEING_WRITTEN.search(name):
            raise _Missing(f"{name} is being written")
    has_variables_files = any(name.startswith("variables/") and not _is_hidden(name) for name in files)
    if prefer_tflite_model and _TFLITE in files:
        _read(path, _TFLITE, lambda tflite: check_tflite(tflite, storage))
        return
    if _PB in files:
        look_for_variables = _INDEX not in files
        saved_model = _read(path, _PB, lambda pb: read_pb(pb, look_for_variables, storage))
    elif _PBTXT in files:
        saved_model = _read(path, _PBTXT, lambda pbtxt: read_pbtxt(pbtxt, storage))
    elif _TFLITE in files and not has_variables_files:
        _read(path, _TFLITE, lambda tflite: check_tflite(tflite, storage))
        return
    elif _PYTHON in files and not has_variables_files:
        _read(path, _PYTHON, lambda model: _check_python(model, storage))
        return
    elif has_variables_files or not any(name in files for name in _OTHER_CONTENTS):
        raise _Missing(f"{_PB} is not there")
    else:
        return
    _check_assets(saved_model, files)
    if _INDEX in files:
        _check_shards(path, files, storage)
    elif has_variables_files or saved_model.has_variables:
        # TensorFlow's loader restores nothing when there is no index, and serves a graph without its values.
        raise _Missing(f"{_INDEX} is not there")


def _check_python(path: str, storage: Storage) -> None:
    with storage.open(path) as file:
        source = file.read()
    try:
        compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: too deep for the compiler
        raise Malformed(str(error)) from None


def _check_assets(saved_model: SavedModelFile, files: Mapping[str, FileStat]) -> None:
    for name in saved_model.asset_files:
        if f"assets/{name}" not in files:
            raise _Missing(f"assets/{name} is not there")


def _check_shards(path: str, files: Mapping[str, FileStat], storage: Storage) -> None:
    for ending, size in _read(path, _INDEX, lambda index: shard_sizes(index, storage)).items():
        shard = f"variables/variables.{ending}"
        if shard not in files:
            raise _Missing(f"{shard} is not there")
        if files[shard].size < size:
            raise _Missing(f"{shard} has {files[shard].size} of {size} bytes")


def _read(path: str, name: str, read: Callable[[str], _T]) -> _T:
    try:
        return read(os.path.join(path, name))
    except Malformed as error:
        raise _Missing(f"{name} is not whole: {error}") from None
    except OSError as error:
        raise _Missing(f"{name} cannot be read: {error.strerror}", is_lasting=False) from None


def _is_hidden(name: str) -> bool:
    return os.path.basename(name).startswith(".")
