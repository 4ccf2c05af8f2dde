"""Where the server's processor time goes while it answers Predict calls, in microseconds a call.

    python benchmarks/profile_request.py [--workload half_plus_two] [--in_flight 32] [--own_timeouts]

Two runs of the same load on one server: the first as it is, for the time of each thread, in the program and in the
kernel; the second with the thread of the event loop under cProfile, which counts calls exactly but makes functions
dearer than they are. A function that waits for a lock, the GIL too, is charged with the wait.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.grpc_load import generator, preparation  # noqa: E402
from benchmarks.grpc_load.generator import Load  # noqa: E402
from benchmarks.grpc_load.servers import Server, ServerCommand, Tools  # noqa: E402

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LEAST_US = 0.1
"""Of a thread that is shown."""


@dataclass(frozen=True, slots=True)
class Line:
    """One function's part of a call."""

    own_us: float
    all_us: float
    calls: float
    function: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="half_plus_two", choices=("half_plus_two", "image", "mobilenet_v2"))
    parser.add_argument("--encoding", default="float_val", choices=("float_val", "tensor_content"))
    parser.add_argument("--in_flight", type=int, default=32)
    parser.add_argument("--own_timeouts", action="store_true", help="a grpc-timeout that differs on every call")
    parser.add_argument("--transport", default="http2", choices=("http2", "grpcio"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--generator", type=lambda text: Path(text).resolve(), help="built when not given")
    arguments = parser.parse_args()
    load = Load(arguments.encoding, arguments.in_flight, vary_timeout=arguments.own_timeouts, seconds=arguments.seconds)
    tools = Tools(arguments.generator or preparation.built("generator"), Path())
    model = preparation.models(preparation.MODELS, [arguments.workload])[arguments.workload]
    with tempfile.TemporaryDirectory(prefix="profile") as name:
        profile = Path(name, "profile")
        command = (
            f"{{python}} {__file__} --serve {profile} --port={{port}} --rest_api_port={{rest_port}} "
            f"--model_name={{model}} --model_base_path={{base_path}} --grpc_transport={arguments.transport}"
        )
        server = Server(ServerCommand("profiled", command), model, Path(name), tools)
        try:
            server.wait_until_ready()
            print_threads(server, load)
            print_functions(server, load, profile, arguments.lines)
        finally:
            server.stop()


def calls_of(server: Server, load: Load) -> int:
    outcome = server.start_load(load).outcome()
    if wrong := generator.troubles(outcome, server.model):
        sys.exit("; ".join(wrong))
    return outcome.ok


def thread_costs(pid: int) -> dict[int, tuple[float, float, float]]:
    """Seconds in the program, in the kernel, and page faults, by the thread's number; the loop's is the process's."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        in_program, in_kernel = int(fields[11]) / _TICKS_PER_SECOND, int(fields[12]) / _TICKS_PER_SECOND
        found[int(task.name)] = (in_program, in_kernel, float(fields[7]))
    return found


def print_threads(server: Server, load: Load) -> None:
    pid = server.child.process.pid
    before = thread_costs(pid)
    calls = calls_of(server, load)
    parts = []
    for thread, costs in thread_costs(pid).items():
        user, system, faults = ((b - a) / calls for a, b in zip(before.get(thread, (0, 0, 0)), costs, strict=True))
        parts.append((1e6 * user, 1e6 * system, faults, "event loop" if thread == pid else f"thread {thread}"))
    parts.sort(key=lambda part: -(part[0] + part[1]))
    print(f"{sum(user + system for user, system, *_ in parts):.1f} µs of processor time a call, {calls} calls")
    print(f"{'program':>8} {'kernel':>8} {'faults':>7}")
    for user, system, faults, name in parts:
        if user + system >= _LEAST_US:
            print(f"{user:8.1f} {system:8.1f} {faults:7.2f}  {name}")


def print_functions(server: Server, load: Load, profile: Path, count: int) -> None:
    process = server.child.process
    process.send_signal(signal.SIGUSR1)
    calls = calls_of(server, load)
    process.send_signal(signal.SIGUSR2)
    server.stop()  # once it has gone, the profile is written
    lines = [
        Line(1e6 * own / calls, 1e6 * whole / calls, entered / calls, _function(*where))
        for where, (_, entered, own, whole, _) in pstats.Stats(str(profile)).stats.items()  # type: ignore[attr-defined]
    ]
    print("\nThe event loop's thread under cProfile")
    print(f"{'own µs':>8} {'all µs':>8} {'calls':>6}  function")
    for line in sorted(lines, key=lambda line: -line.own_us)[:count]:
        print(f"{line.own_us:8.2f} {line.all_us:8.2f} {line.calls:6.2f}  {line.function}")


def _function(file: str, line: int, name: str) -> str:
    if file == "~":
        return name
    short = os.path.relpath(file, ROOT) if file.startswith(f"{ROOT}/pyserving") else "/".join(file.split("/")[-2:])
    return f"{name} ({short}:{line})"


def serve(profile_file: str, flags: list[str]) -> None:
    """The server's command; SIGUSR1 begins the profile of its loop's thread, SIGUSR2 ends it."""
    from pyserving import main

    profile = cProfile.Profile()

    def end(*_: object) -> None:
        profile.disable()
        profile.dump_stats(profile_file)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, end)
    sys.exit(main.run(flags))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3:])
    else:
        main()
