"""What the machine gives this process, CPUs and memory as containers and cgroups leave them to it, and takes back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

if sys.platform != "win32":
    import resource

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


def schedulable_cpus() -> int:
    """The CPUs this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory(root: Path = Path("/")) -> int:
    """Bytes: what the machine has to give now, or the limit of a cgroup this process is in, where that is less."""
    return min([_machine_memory(root), *_cgroup_limits(root)])


def _machine_memory(root: Path) -> int:
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable: +(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Of the process's own cgroup and those around it; version 1 and 2 differ in where they keep them."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if not controllers:
            folder, limit_file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, limit_file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        own = Path(path.lstrip("/"))
        for cgroup in (own, *own.parents):
            with contextlib.suppress(OSError):  # not every level shows its files inside a container
                limit = (folder / cgroup / limit_file).read_text().strip()
                if limit != "max":
                    yield int(limit)


def max_open_files() -> int:
    """Files and connections that this process may have open at a time."""
    return _open_files_limits()[0]


def allow_open_files(wished: int) -> None:
    """Let this process open as many, if the system leaves it that choice; never fewer than before."""
    if sys.platform == "win32":
        return
    soft, hard = _open_files_limits()
    if soft < (allowed := min(wished, hard)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _open_files_limits() -> tuple[int, int]:
    if sys.platform == "win32":
        return sys.maxsize, sys.maxsize
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return sys.maxsize if soft == unlimited else soft, sys.maxsize if hard == unlimited else hard


def give_back_free_memory() -> None:
    """Let the machine have what the C library keeps of memory that was freed; takes milliseconds, holds no GIL.

    Only glibc (from Linux distributions other than Alpine's kind) has to be told.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)


def keep_freed_memory(most_bytes: int) -> None:
    """Let each of the C library's arenas keep so much of what was freed, for what is taken next, before it is given
    back: to have the pages of a large body mapped and cleared anew takes longer than to read it.

    Only glibc is told; others have ways of their own.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_M_TRIM_THRESHOLD, most_bytes)
        set_option(_M_MMAP_THRESHOLD, most_bytes)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
