"""Storage that TensorFlow does not open, `s3://` above all, by way of fsspec and the packages it knows for schemes."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

from pyserving.sources.storage import Entry, FileStat, is_content

_INSTALL = "pip install 'pyserving[remote]', or the package of a scheme other than s3"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""What file systems call the time at which a file was written."""
_TAGS = ("ETag", "etag")


class FsspecStorage:
    """Credentials and addresses come from the environment, as each package has it. No listing is remembered."""

    can_be_watched = False

    def list(self, path: str) -> list[str]:
        with _opened(path) as (fs, root):
            found = fs.ls(root, detail=True)
        names = {_below(root, info["name"]).partition("/")[0] for info in found}
        return sorted(names - {""})

    def stat(self, path: str) -> Entry:
        with _opened(path) as (fs, root):
            return _entry(fs.info(root))

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """One listing, whatever the number of folders, where the storage can do so."""
        with _opened(path) as (fs, root):
            found = {_below(root, name): info for name, info in fs.find(root, detail=True).items()}
            if not any(found):
                yield "", _entry(fs.info(root))
                return
            yield "", Entry(True, FileStat(0, 0))
            for name in sorted(filter(_is_file_name, found), key=lambda name: (name.count("/"), name)):
                yield name, _entry(_sized(fs, found[name]))

    def open(self, path: str) -> BinaryIO:
        """Fetched whole: reading byte by byte would ask the storage for each."""
        with _opened(path) as (fs, root):
            return io.BytesIO(fs.cat_file(root))

    def read(self, path: str, start: int, end: int) -> bytes:
        """The bytes of a file from `start` up to `end`. Raises OSError when the storage gives more or fewer of them."""
        with _opened(path) as (fs, root):
            data: bytes = fs.cat_file(root, start=start, end=end)
        if len(data) != end - start:
            raise OSError(errno.EIO, f"the storage gave {len(data)} bytes in the place of {end - start}", path)
        return data


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URI, and the path in it; what goes wrong is an OSError with a sentence."""
    fs = None
    try:
        fs, root = _file_system(path)
        yield fs, root
    except Exception as error:  # each package has errors of its own, which need not be OSErrors
        if fs is not None and not isinstance(error, FileNotFoundError):
            fs.clear_instance_cache()  # the next try reads credentials anew
        raise OSError(_number(error), _sentence(error), path) from None


def _file_system(path: str) -> tuple[Any, str]:
    """fsspec has one for all threads, or one for each where that is not safe."""
    scheme = path.partition("://")[0]
    if not _SCHEME.fullmatch(scheme) or "::" in path:
        raise ValueError("not a plain URI")
    try:
        import fsspec
    except ImportError:
        raise ImportError(f"{scheme}:// needs packages that are not installed: {_INSTALL}") from None
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(path, use_listings_cache=False)
    except ImportError as error:
        raise ImportError(f"{scheme}:// needs a package that is not installed. {error}: {_INSTALL}") from None
    return found


def _entry(info: Mapping[str, Any]) -> Entry:
    if info["type"] == "directory":
        return Entry(True, FileStat(0, 0))
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    return Entry(False, FileStat(info.get("size") or 0, _mtime_ns(info), tag=tag.removeprefix("W/").strip('"')))


def _mtime_ns(info: Mapping[str, Any]) -> int:
    """0 where the file system does not tell, or in words."""
    for key in _TIMES:
        time = info.get(key)
        if isinstance(time, datetime):
            return int(time.timestamp() * 1e9)
        if isinstance(time, int | float):
            return int(time * 1e9)
    return 0


def _sized(fs: Any, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Listings over HTTP tell no sizes; asking for the file does."""
    if info.get("size") is not None:
        return info
    found: Mapping[str, Any] = fs.info(info["name"])
    return found


def _below(root: str, name: str) -> str:
    """Relative to `root`; empty for the root itself and what is not below."""
    folder = root.rstrip("/") + "/"
    return name.removeprefix(folder) if name.startswith(folder) else ""


def _is_file_name(name: str) -> bool:
    """Not so for the objects that stand for folders."""
    return bool(name) and not name.endswith("/") and all(map(is_content, name.split("/")))


def _number(error: Exception) -> int:
    if isinstance(error, PermissionError):
        return errno.EACCES
    # A bucket that is missing is not a base path that is yet to come, but one that is wrong.
    if isinstance(error, FileNotFoundError) and not _is_bucket_missing(error):
        return errno.ENOENT
    return errno.EIO


def _is_bucket_missing(error: FileNotFoundError) -> bool:
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket"


def _sentence(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
