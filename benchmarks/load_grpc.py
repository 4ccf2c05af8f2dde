"""gRPC Predict under load: this server on both its transports, a C++ server of the least work, and any other.

    python benchmarks/load_grpc.py [--only half_plus_two,image] [--rounds 5] [--seconds 2] [--out FILE.md]
        [--server 'NAME=COMMAND with {port} and {base_path}'] ...

Every server of a workload is started in a process of its own and stays up; in each round each of them in turn is loaded
alone, with the same bytes, in the same way. Gates compare figures of one round. Every answer is checked: its
grpc-status, what it holds, and against the server's own count.

A command of --server is given {port} and may use {rest_port} {model} {base_path} {version_folder} {signature} {input}
{output} {input_tensor} {output_tensor} {python} {libtensorflow}; first words VARIABLE=VALUE go into its environment.
NAME@WORKLOAD,WORKLOAD=COMMAND limits it to some workloads, and NAME-SETTING=COMMAND makes it one setting of NAME, of
which gates take the fastest. Names that gates know are http2, grpcio, floor, prototype and bare.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.grpc_load import generator, idle, preparation, report, servers  # noqa: E402
from benchmarks.grpc_load.generator import GeneratorFailed, Load, Outcome  # noqa: E402
from benchmarks.grpc_load.models import Model  # noqa: E402
from benchmarks.grpc_load.results import Idle, Results, Soak  # noqa: E402
from benchmarks.grpc_load.servers import (  # noqa: E402
    BARE,
    OURS,
    Bare,
    NotRunSo,
    Server,
    ServerCommand,
    ServerFailed,
    Subject,
    Tools,
)
from benchmarks.grpc_load.workloads import (  # noqa: E402
    CELLS,
    IDLE_CONNECTIONS,
    PRODUCT,
    SOAK_CONNECTIONS,
    SOAK_IN_FLIGHT,
    WORKLOADS,
    Cell,
)
from benchmarks.load_swap import machine  # noqa: E402

START_SECONDS = 15.0
"""That a server takes to be ready, for the estimate."""
OVERHEAD_SECONDS = 0.3
"""Around each measurement."""
RSS_EVERY_SECONDS = 10.0
IDLE_SETTLE_SECONDS = 2.0
_MODEL_OF = {"soak": "half_plus_two", "idle": "half_plus_two"}
_FAILURES = (ServerFailed, GeneratorFailed, OSError)


def absolute(text: str) -> Path:
    """Servers run at the root of the repository."""
    return Path(text).resolve()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, of %(default)s")
    parser.add_argument("--in_flight", help="only cells with these numbers of calls in flight, such as 1,32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each cell, round and server")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds of the same load before that")
    parser.add_argument("--soak_minutes", type=float, default=10.0)
    parser.add_argument("--servers", default=",".join([*(each.name for each in OURS), *BARE]), help="of %(default)s")
    parser.add_argument("--server", action="append", default=[], type=servers.parse_server, metavar="NAME=COMMAND")
    parser.add_argument("--models", type=absolute, default=preparation.MODELS)
    parser.add_argument("--floor", type=absolute, help="the built floor; built when not given")
    parser.add_argument("--generator", type=absolute, help="the built load generator; built when not given")
    parser.add_argument("--max_frame", type=int, help="bytes of a DATA frame; default: what the server asks for")
    parser.add_argument("--out", type=Path, help="where to write the tables as well")
    parser.add_argument("--json", type=Path, help="where to write every sample")
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    if unknown := set(arguments.only) - set(WORKLOADS):
        parser.error(f"no such workloads: {', '.join(unknown)}")
    return arguments


class Benchmark:
    """One run: what was chosen, and what has been found so far."""

    def __init__(self, arguments: argparse.Namespace, logs: Path) -> None:
        self._arguments = arguments
        self._logs = logs
        chosen = arguments.servers.split(",")
        self._commands = [each for each in OURS if each.name in chosen] + arguments.server
        self._bare = [name for name in BARE if name in chosen]
        self._models: dict[str, Model] = {}
        self.found = Results()

    def commands(self, workload: str) -> list[ServerCommand]:
        return [command for command in self._commands if workload in command.workloads]

    def cells(self, workload: str) -> list[Cell]:
        wanted = self._arguments.in_flight and {int(n) for n in self._arguments.in_flight.split(",")}
        return [cell for cell in CELLS if cell.workload == workload and (not wanted or cell.in_flight in wanted)]

    def expected_seconds(self) -> float:
        a, seconds = self._arguments, 30.0
        for workload in a.only:
            count = len(self.commands(workload)) + (len(self._bare) if workload == "mobilenet_v2" else 0)
            if workload == "soak":
                seconds += START_SECONDS + 60 * a.soak_minutes
            elif workload == "idle":
                seconds += count * (START_SECONDS + a.warmup + a.seconds + IDLE_SETTLE_SECONDS)
            else:
                each = a.warmup + a.seconds + OVERHEAD_SECONDS
                seconds += count * (START_SECONDS + len(self.cells(workload)) * a.rounds * each)
        return seconds

    def prepare(self) -> None:
        """Builds what is not built, exports models, writes requests."""
        a = self._arguments
        uses_floor = any("{floor}" in command.command for command in self._commands)
        floor = a.floor or (preparation.built("floor") if uses_floor else Path())
        self._tools = Tools(a.generator or preparation.built("generator"), floor, a.max_frame)
        names = list(dict.fromkeys(_MODEL_OF.get(workload, workload) for workload in a.only))
        self._models = preparation.models(a.models, names)

    def run(self) -> None:
        for workload in self._arguments.only:
            if workload == "soak":
                self._soak()
            elif workload == "idle":
                self._idle()
            else:
                self._take_turns(workload)
            self.write()

    def _trouble(self, sentence: str) -> None:
        print(f"    TROUBLE {sentence}", flush=True)
        self.found.troubles.append(sentence)

    @contextmanager
    def _server(self, command: ServerCommand, workload: str) -> Iterator[Server]:
        server = Server(command, self._models[_MODEL_OF[workload]], self._logs, self._tools)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()

    def _take_turns(self, workload: str) -> None:
        cells, model = self.cells(workload), self._models[workload]
        make: dict[str, Callable[[], Subject]] = {
            command.name: partial(Server, command, model, self._logs, self._tools)
            for command in self.commands(workload)
        }
        if workload == "mobilenet_v2":
            make |= {name: partial(Bare, name, model, self._logs) for name in self._bare}
        with ExitStack() as stack:
            started = [self._started(stack, name, each) for name, each in make.items()]
            ready = [subject for subject in started if subject is not None and self._is_ready(subject, workload)]
            for round in range(self._arguments.rounds):
                for cell in cells:
                    # Each comes after each other one in some round.
                    first = round % max(1, len(ready))
                    for subject in ready[first:] + ready[:first]:
                        self._measure(subject, cell, round)

    def _started(self, stack: ExitStack, name: str, make: Callable[[], Subject]) -> Subject | None:
        try:
            subject = make()
        except _FAILURES as error:
            self._trouble(f"{name}: {error}")
            return None
        stack.callback(subject.stop)
        return subject

    def _is_ready(self, subject: Subject, workload: str) -> bool:
        try:
            subject.wait_until_ready()
        except NotRunSo:
            print(f"{subject.name}: the server does not run {workload} in that way", flush=True)
            return False
        except _FAILURES as error:
            self._trouble(f"{subject.name}, {workload}: {error}")
            return False
        return True

    def _measure(self, subject: Subject, cell: Cell, round: int) -> None:
        a = self._arguments
        try:
            sample, wrong = subject.measure(cell, round, a.seconds, a.warmup)
        except _FAILURES as error:
            self._trouble(f"{subject.name}, {cell.name}, round {round}: {error}")
            return
        print(
            f"round {round}  {cell.name:44} {subject.name:14} {sample.calls_per_second:10,.1f}/s "
            f"{sample.mean_us / 1e3:9.3f} ms  server {sample.cpu_us_per_call:8.1f} µs client {sample.client_cores:.2f}",
            flush=True,
        )
        for sentence in wrong:
            self._trouble(f"{subject.name}, {cell.name}, round {round}: {sentence}")
        if not wrong:
            self.found.samples.append(sample)

    def _soak(self) -> None:
        seconds = 60 * self._arguments.soak_minutes
        for command in self.commands("soak"):
            if command.name != PRODUCT:
                continue
            try:
                with self._server(command, "soak") as server:
                    counted_before = server.counted()
                    outcome, rss = self._long_load(server, seconds)
                    counted = server.counted() - counted_before
            except _FAILURES as error:
                self._trouble(f"{command.name}, soak: {error}")
                continue
            wrong = generator.troubles(outcome, server.model)
            if counted != outcome.ok:
                wrong.append(f"the server counted {counted} OK answers, the client {outcome.ok}")
            for sentence in wrong:
                self._trouble(f"{command.name}, soak: {sentence}")
            self.found.soaks.append(Soak(command.name, outcome.calls_per_second, outcome.ok, seconds, tuple(rss)))

    def _long_load(self, server: Server, seconds: float) -> tuple[Outcome, list[tuple[float, int]]]:
        """And the server's memory meanwhile: seconds since the beginning, bytes."""
        load = Load("float_val", SOAK_IN_FLIGHT, SOAK_CONNECTIONS, vary_timeout=True, warmup=0, seconds=seconds)
        every = min(RSS_EVERY_SECONDS, seconds / 12)
        rss: list[tuple[float, int]] = []
        with ExitStack() as stack:
            running, began = server.start_load(load), time.monotonic()
            stack.callback(running.stop)
            while not running.is_over(every):
                rss.append((time.monotonic() - began, server.child.rss_bytes()))
                print(f"soak  {rss[-1][0]:6.0f} s  {rss[-1][1] / 1e6:8.1f} MB", flush=True)
            return running.outcome(), rss

    def _idle(self) -> None:
        for command in self.commands("idle"):
            try:
                with self._server(command, "idle") as server:
                    each, all_open = self._idle_bytes(server)
            except _FAILURES as error:
                self._trouble(f"{command.name}, idle: {error}")
                continue
            if not all_open:
                self._trouble(f"{command.name}, idle: the server closed some of the connections")
            print(f"idle  {command.name:14} {each:10,.0f} bytes each", flush=True)
            self.found.idles.append(Idle(command.name, IDLE_CONNECTIONS, each))

    def _idle_bytes(self, server: Server) -> tuple[float, bool]:
        """What each of a thousand connections costs, and whether all stayed open; the dearer of two thousands.

        After a load, so that what a server needs only once is not counted as theirs. The second thousand no longer
        finds the memory that the load has left free.
        """
        a = self._arguments
        server.measure(Cell("half_plus_two", 32), 0, a.seconds, a.warmup)
        request = Path(server.model.requests["float_val"]).read_bytes()
        message = request[: 5 + int.from_bytes(request[1:5], "big")]
        with ExitStack() as stack:
            sizes, connections = [], []
            for _ in range(2):
                time.sleep(IDLE_SETTLE_SECONDS)
                sizes.append(server.child.rss_bytes())
                connections += idle.open_connections(stack, server.port, IDLE_CONNECTIONS, message)
            time.sleep(IDLE_SETTLE_SECONDS)
            sizes.append(server.child.rss_bytes())
            growth = max(after - before for before, after in pairwise(sizes))
            return growth / IDLE_CONNECTIONS, idle.are_open(connections)

    def tables(self) -> str:
        return report.markdown(self.found, machine(), len(os.sched_getaffinity(0)))

    def write(self) -> None:
        """What there is so far, so that a run that is cut off is not lost."""
        if self._arguments.out:
            self._arguments.out.write_text(self.tables())
        if self._arguments.json:
            everything: dict[str, Any] = {"machine": machine(), **asdict(self.found)}
            self._arguments.json.write_text(json.dumps(everything, indent=1))


def _leave(number: int, _: object) -> NoReturn:
    """By the way of all `finally`s, so that no server stays behind."""
    sys.exit(128 + number)


def main(arguments: argparse.Namespace) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    # A thousand connections, here and in the servers, which inherit it.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logs = Path(tempfile.mkdtemp(prefix="load_grpc"))
    benchmark = Benchmark(arguments, logs)
    print(f"Takes about {benchmark.expected_seconds() / 60:.0f} minutes; logs of servers are in {logs}", flush=True)
    try:
        benchmark.prepare()
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 2
    benchmark.run()
    print()
    print(benchmark.tables())
    failed = any(verdict.passed is False for verdict in report.verdicts(benchmark.found))
    return 1 if benchmark.found.troubles or failed else 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
