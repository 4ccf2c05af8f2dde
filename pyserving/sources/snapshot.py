"""What a version folder's files look like at one moment, from their stats alone, and whether they changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from pyserving.sources.storage import LOCAL, FileStat, Storage

_SECOND_NS = 1_000_000_000
COARSE_SECONDS = 2.0
"""The coarsest time stamps about (FAT)."""
_FILES_COMPARED = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything below one version folder, by path relative to it; the shallowest first."""

    files: Mapping[str, FileStat]
    """A version that is a file and no folder is one file with an empty name."""
    folders: Mapping[str, int]
    """Modification time in ns; the version folder's own name is empty."""
    specials: tuple[str, ...] = ()
    """Pipes, sockets and devices, which are not to be opened."""

    @property
    def is_file(self) -> bool:
        return "" in self.files

    @property
    def tells_times(self) -> bool:
        """Whether a file that is written without becoming longer makes it another snapshot."""
        return all(file.mtime_ns or file.tag for file in self.files.values())

    def seconds_since_change(self, wall: float) -> float:
        """How long ago the newest file was written, at `wall` seconds since the epoch; negative with skewed clocks.

        Copying tools set a file's modification time back once it is there (`cp -p`, `rsync -t`, `tar`), so the
        time at which the file system itself last touched the file counts as well. A folder's does not: renaming
        a folder into place does not change what is in it. By the storage's clock, which may differ from ours.
        """
        written = [max(file.mtime_ns, file.ctime_ns) for file in self.files.values()]
        newest = max([*written, *self.folders.values()], default=None)
        if not newest:  # nothing is there, or the storage does not tell
            return 0.0
        is_coarse = newest % _SECOND_NS == 0
        return wall - newest / _SECOND_NS - (COARSE_SECONDS if is_coarse else 0.0)


NOTHING = Snapshot({}, {})


def take_snapshot(path: str, storage: Storage = LOCAL) -> Snapshot:
    """Raises OSError when the version folder cannot be listed."""
    files: dict[str, FileStat] = {}
    folders: dict[str, int] = {}
    specials: list[str] = []
    for name, entry in storage.walk(path):
        if entry.is_folder:
            folders[name] = entry.stat.mtime_ns
        elif entry.is_special and name:
            specials.append(name)
        else:
            files[name] = entry.stat
    return Snapshot(files, folders, tuple(specials))


def is_untouched(path: str, before: Snapshot, storage: Storage = LOCAL) -> bool:
    """Whether a few stats find everything as it was. Cheap: no folder is listed and at most 64 files are looked at.

    Never so for storage whose folders have no times: there only a new snapshot tells.
    """
    if not all(before.folders.values()):
        return False
    try:
        folders = {name: storage.stat(_join(path, name)).stat.mtime_ns for name in before.folders}
        some_files = islice(before.files.items(), _FILES_COMPARED)
        return folders == before.folders and all(
            storage.stat(_join(path, name)).stat == file for name, file in some_files
        )
    except OSError:
        return False


def is_replaced(before: Snapshot, after: Snapshot) -> bool:
    """Whether a file came, went or was written. Hidden files do not count."""
    old, new = dict(_visible(before)), dict(_visible(after))
    return old.keys() != new.keys() or any(_is_rewritten(old[name], new[name]) for name in old)


def _is_rewritten(before: FileStat, after: FileStat) -> bool:
    if before.tag and after.tag:
        return (before.size, before.tag) != (after.size, after.tag)
    # An inode number alone means little on network file systems, a change time alone may be a chmod; both together are
    # another file, even one whose size and modification time were made the same.
    if (before.size, before.mtime_ns) != (after.size, after.mtime_ns):
        return True
    return before.inode != after.inode and before.ctime_ns != after.ctime_ns


def _visible(snapshot: Snapshot) -> Iterator[tuple[str, FileStat]]:
    return ((name, file) for name, file in snapshot.files.items() if not os.path.basename(name).startswith("."))


def _join(path: str, name: str) -> str:
    return os.path.join(path, name) if name else path
