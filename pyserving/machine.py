"""What the machine gives this process, CPUs and memory as containers and cgroups leave them to it, and takes back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

if sys.platform != "win32":
    import fcntl
    import resource


def schedulable_cpus() -> int:
    """The CPUs this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def granted_cpus(root: Path = Path("/")) -> float:
    """As many of them as this process may use at a time: all, or what a cgroup that it is in leaves to it."""
    return min([float(schedulable_cpus()), *_cpu_quotas(root)])


def idle_seconds(root: Path = Path("/")) -> float:
    """That the CPUs this process may run on have idled, all together, since the machine started.

    In steps of some 10 ms. Always 0 where the system does not tell.
    """
    if sys.platform != "linux":
        return 0.0
    names = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
    ticks = 0
    with contextlib.suppress(OSError):
        for line in (root / "proc/stat").read_text().splitlines():
            name, *spent = line.split()
            if name in names:
                ticks += int(spent[3]) + int(spent[4])  # idle, and idle while the disk works
    return ticks / os.sysconf("SC_CLK_TCK")


def available_memory(root: Path = Path("/")) -> int:
    """Bytes: what the machine has to give now, or the limit of a cgroup this process is in, where that is less."""
    return min([_machine_memory(root), *_cgroup_limits(root)])


def resident_bytes(root: Path = Path("/")) -> int:
    """What this process has of the machine's memory now; 0 where the system does not tell."""
    try:
        pages = (root / "proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _machine_memory(root: Path) -> int:
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable: +(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_limits(root: Path) -> Iterator[int]:
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError):
                limit = (folder / name).read_text().strip()
                if limit != "max":
                    yield int(limit)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """CPUs' time by time."""
    for folder in _cgroup_folders(root, "cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) / int(period)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Of the process's own cgroup and those around it; version 1 and 2 differ in where they are, and what is in them.

    Not every level shows its files inside a container.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if not controllers:
            folder = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            folder = root / "sys/fs/cgroup" / controller
        else:
            continue
        own = Path(path.lstrip("/"))
        yield from (folder / cgroup for cgroup in (own, *own.parents))


_CPUS_WITH_ONEDNN = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
_CPUS_WITH_BFLOAT16 = {"avx512f", "avx_ne_convert"}


def why_no_bfloat16(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> str | None:
    """Why TensorFlow's oneDNN will not compute in bfloat16 on this machine; None where nothing is known against it.

    As tensorflow/core/util/port.cc switches oneDNN on, and oneDNN looks at x86 processors.
    """
    switch = environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    if switch in ("0", "false"):
        return f"TF_ENABLE_ONEDNN_OPTS={switch} switches oneDNN off"
    try:
        found = re.search(r"^flags\s*:(.*)$", (root / "proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    if found is None:  # no x86
        return None
    features = set(found[1].split())
    if not features & _CPUS_WITH_BFLOAT16:
        return "this processor has neither AVX512F nor AVX_NE_CONVERT"
    if not switch and not features & _CPUS_WITH_ONEDNN:
        return "oneDNN is off on this processor unless TF_ENABLE_ONEDNN_OPTS=1 is set"
    return None


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


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
_MMAP_BYTES = 32 << 20
_KEPT_BYTES = 64 << 20
"""What glibc would come to by itself, once a block of 32 MiB had been freed."""


def keep_free_memory() -> None:
    """Let the C library keep what requests free for the next ones, instead of handing it back and forth.

    The memory of a request of 600 KB comes from the system anew each time else, one page fault for each 4 KiB, which
    takes longer than to receive it. Where MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES say
    something about it, they are obeyed. What is kept goes with `give_back_free_memory`.
    """
    if (set_option := _mallopt()) is None or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    for name, option, value in (
        ("MALLOC_MMAP_THRESHOLD_", _M_MMAP_THRESHOLD, _MMAP_BYTES),
        ("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, _KEPT_BYTES),
    ):
        if name not in os.environ:
            set_option(option, value)


def _mallopt() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    option: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    return option


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def lock_file(descriptor: int, *, waits: bool = False) -> bool:
    """Held as long as the process lives: whoever gets the lock of another's file knows that it does not.

    False when another has it, or the file system knows no locks.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
