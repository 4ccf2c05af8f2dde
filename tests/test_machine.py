"""What a machine gives, read from files as Linux writes them."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pyserving import machine
from pyserving.machine import available_memory, granted_cpus, resident_bytes, schedulable_cpus

MIB = 1 << 20


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "proc/meminfo", f"MemTotal: {8192 * 1024} kB\nMemAvailable:    {4096 * 1024} kB\nBuffers: 1 kB\n")
    return tmp_path


def test_what_the_process_has_is_counted_in_pages(root):
    write(root, "proc/self/statm", "900 300 200 1 0 100 0\n")

    assert resident_bytes(root) == 300 * os.sysconf("SC_PAGE_SIZE")
    assert resident_bytes(root / "nowhere") == 0


def test_memory_is_the_machines_where_no_cgroup_limits_it(root):
    write(root, "proc/self/cgroup", "0::/user.slice\n")
    write(root, "sys/fs/cgroup/user.slice/memory.max", "max\n")

    assert available_memory(root) == 4096 * MIB


@pytest.mark.parametrize("limited", ["pod/container", "pod"])
def test_memory_is_at_most_what_a_cgroup_or_one_around_it_allows(root, limited):
    write(root, "proc/self/cgroup", "0::/pod/container\n")
    write(root, f"sys/fs/cgroup/{limited}/memory.max", f"{512 * MIB}\n")

    assert available_memory(root) == 512 * MIB


def test_memory_is_at_most_what_a_container_of_its_own_namespace_allows(root):
    write(root, "proc/self/cgroup", "0::/\n")
    write(root, "sys/fs/cgroup/memory.max", f"{256 * MIB}\n")

    assert available_memory(root) == 256 * MIB


def test_memory_is_at_most_what_a_cgroup_of_version_1_allows(root):
    write(root, "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{128 * MIB}\n")

    assert available_memory(root) == 128 * MIB


def test_memory_limit_above_the_machines_changes_nothing(root):
    write(root, "proc/self/cgroup", "4:memory:/\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")

    assert available_memory(root) == 4096 * MIB


def test_memory_of_a_system_without_such_files_is_all_of_it(tmp_path):
    assert available_memory(tmp_path) > 0


def test_cpus_are_at_least_one():
    assert schedulable_cpus() >= 1


def test_as_many_cpus_are_granted_as_there_are(root):
    write(root, "proc/self/cgroup", "0::/pod\n")
    write(root, "sys/fs/cgroup/pod/cpu.max", "max 100000\n")

    assert granted_cpus(root) == schedulable_cpus()


@pytest.mark.parametrize("limited", ["pod/container", "pod"])
def test_fewer_cpus_are_granted_where_a_cgroup_or_one_around_it_limits_their_time(root, limited):
    write(root, "proc/self/cgroup", "0::/pod/container\n")
    write(root, f"sys/fs/cgroup/{limited}/cpu.max", "50000 100000\n")

    assert granted_cpus(root) == 0.5


@pytest.mark.parametrize("text", ["", "max", "1", "50000 0", "half 100000", "50000 100000 1"])
def test_what_no_kernel_writes_limits_nothing(root, text):
    write(root, "proc/self/cgroup", "0::/pod\n5:cpu:/pod\n")
    write(root, "sys/fs/cgroup/pod/cpu.max", text)
    write(root, "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us", text)
    write(root, "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us", "0")

    assert granted_cpus(root) == schedulable_cpus()


@pytest.mark.parametrize(("quota", "granted"), [("25000", 0.25), ("-1", None)])
def test_a_cgroup_of_version_1_limits_them_too(root, quota, granted):
    write(root, "proc/self/cgroup", "3:cpuset:/\n5:cpu,cpuacct:/x\n")
    write(root, "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", f"{quota}\n")
    write(root, "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n")

    assert granted_cpus(root) == (granted or schedulable_cpus())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries need not be told")
def test_freed_memory_goes_back_to_the_machine():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(10_000) for _ in range(5_000)]  # small enough to come from the heap
    for block in blocks:
        ctypes.memset(block, 1, 10_000)
    for block in blocks[:-1]:  # the last one keeps the top of the heap where it is
        libc.free(block)
    before = resident_bytes()
    machine.give_back_free_memory()
    assert resident_bytes() < before - 40_000_000
    libc.free(blocks[-1])


def test_a_c_library_that_needs_not_be_told_is_left_alone(monkeypatch):
    monkeypatch.setattr(machine, "_malloc_trim", lambda: None)
    assert machine.give_back_free_memory() is None


_FAULTS_OF_REQUESTS = """
import resource
import numpy as np
from pyserving.machine import keep_free_memory

def page_faults(requests):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(requests):
        bodies = [np.empty(600_000, np.uint8) for _ in range(8)]
        for body in bodies:
            body[:] = 1
        del bodies, body
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_free_memory()
page_faults(3)
print(page_faults(20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
@pytest.mark.parametrize(
    ("said", "is_kept"),
    [
        ({}, True),
        ({"MALLOC_TRIM_THRESHOLD_": "0"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=0"}, False),
    ],
)
def test_memory_of_requests_is_kept_for_the_next_ones_unless_the_operator_says_otherwise(said, is_kept):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    faults = subprocess.run(
        [sys.executable, "-c", _FAULTS_OF_REQUESTS], env=environment | said, capture_output=True, text=True, check=True
    )
    pages = 20 * 8 * 600_000 // os.sysconf("SC_PAGE_SIZE")
    assert (int(faults.stdout) < pages / 20) is is_kept


def test_open_files_are_allowed_as_wished_but_never_fewer_than_before():
    asked = """
import resource
from pyserving.machine import allow_open_files, max_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
seen = [max_open_files()]
for wished in (150, 120, 1000):
    allow_open_files(wished)
    seen.append(max_open_files())
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "[100, 150, 150, 200]\n"


def test_idle_time_is_that_of_the_cpus_which_the_process_may_use(root):
    mine = min(os.sched_getaffinity(0))
    write(root, "proc/stat", f"cpu  9 9 9 900 90 9\ncpu{mine} 5 0 5 300 50 7 0\ncpu4242 5 0 5 600 40 0 0\nintr 1 2\n")
    assert machine.idle_seconds(root) == 350 / os.sysconf("SC_CLK_TCK")


def test_idle_time_is_none_where_the_system_does_not_tell(tmp_path):
    assert machine.idle_seconds(tmp_path) == 0.0


INTEL = "processor\t: 0\nflags\t\t: fpu sse4_2 avx2 {}\n"
NO_ONEDNN = "oneDNN is off on this processor unless TF_ENABLE_ONEDNN_OPTS=1 is set"


@pytest.mark.parametrize(
    ("cpuinfo", "switch", "reason"),
    [
        (INTEL.format("avx512f avx512_bf16"), None, None),
        (INTEL.format("avx512f avx512_bf16"), "1", None),
        (INTEL.format("avx512f avx512_bf16"), "0", "TF_ENABLE_ONEDNN_OPTS=0 switches oneDNN off"),
        (INTEL.format("avx512f avx512_bf16"), "False", "TF_ENABLE_ONEDNN_OPTS=false switches oneDNN off"),
        (INTEL.format("avx512f"), None, NO_ONEDNN),
        (INTEL.format("avx512f"), "1", None),
        (INTEL.format("avx_vnni avx_ne_convert"), None, None),
        (INTEL.format(""), "1", "this processor has neither AVX512F nor AVX_NE_CONVERT"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", None, None),
        (None, None, None),
    ],
)
def test_reason_against_bfloat16_is_told(tmp_path, cpuinfo, switch, reason):
    if cpuinfo is not None:
        write(tmp_path, "proc/cpuinfo", cpuinfo)
    environ = {} if switch is None else {"TF_ENABLE_ONEDNN_OPTS": switch}
    assert machine.why_no_bfloat16(tmp_path, environ) == reason
