"""What requests feel of versions and models that come and go: an open-loop load while each of these happens.

    python benchmarks/load_swap.py [--quick] [--models half_plus_two,mobilenet_v2] [--json FILE]

It exports what it serves (seeded random weights; kept in the temporary folder for the next time), starts a server of
its own on a UNIX socket, finds its capacity with a closed loop, and then sends half of that, evenly spaced, whatever
becomes of the answers. Against a steady phase without any change it measures, for each model,

    swap        new versions of the model itself
    other swap  new versions of another model, of 100 MB
    labels      a label that moves from one version to another by HandleReloadConfigRequest, and requests by that label
    reload      HandleReloadConfigRequest that adds another model, and one that removes it

Only requests sent between the LOADING of what comes and the END of what goes count, for labels those between a call and
its answer. Latencies are counted from the moment a request was due. A stall is by how much a callback of the server's
loop came late, at a callback every millisecond. Of the longest one, `work` is the part in which the loop's thread ran,
and `cpu` that in which it waited for a processor; in the rest it waited for other threads of its process. `blocked` is
the most of that in any stall.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.swap_load.load import Answer, Load, capacity  # noqa: E402
from benchmarks.swap_load.server import Server, Stall, running_server  # noqa: E402
from pyserving import protos  # noqa: E402
from pyserving.codec import tensor_proto  # noqa: E402

STATUSES = {"OK"}
"""Required of every request; no other is allowed."""
RELOAD_CONFIG = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
OTHER = "resnet50"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="half_plus_two,mobilenet_v2", help="which of these two to load")
    parser.add_argument("--phases", default="swap,other swap,labels,reload")
    parser.add_argument("--quick", action="store_true", help="3 changes a phase instead of 10, and shorter pauses")
    parser.add_argument("--changes", type=int, default=10, help="in each phase")
    parser.add_argument("--load", type=float, default=0.5, help="part of the capacity that is sent")
    parser.add_argument("--flag", action="append", default=[], help="a flag for the server, --grpc_transport=http2 say")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    changes = 3 if options.quick else options.changes
    steady_seconds = 5.0 if options.quick else 20.0
    exported = export()
    results = []
    for model in options.models.split(","):
        results += asyncio.run(measure(model, exported, options.phases.split(","), changes, steady_seconds, options))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "phases": [asdict(r) for r in results]}, indent=1))
    print(machine())
    if any(result.failures for result in results):
        sys.exit("Requests failed")


def export() -> Path:
    """Folder with a version folder of each model."""
    folder = Path(tempfile.gettempdir(), "pyserving-benchmark-models")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import export_models

    from tests import models

    for name in ("mobilenet_v2", OTHER):
        if not (folder / name / "1" / "saved_model.pb").exists():
            print(f"Exporting {name}", flush=True)
            export_models.MODELS[name](str(folder))
    if not (folder / "half_plus_two/1/saved_model.pb").exists():
        models.half_plus_two(folder / "half_plus_two/1")
    return folder


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    from importlib.metadata import version

    return (
        f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, NumPy {version('numpy')}, TensorFlow {version('tensorflow')}"
    )


@dataclass
class Phase:
    """Figures of one phase; times in milliseconds."""

    model: str
    phase: str
    requests: int
    failures: dict[str, int]
    p50: float
    p99: float
    max: float
    stall: float
    """Longest of the server's loop."""
    work: float
    cpu: float
    blocked: float
    ratio: float = 1.0
    """Of its p99 to that of the steady phase."""
    seconds: float = 0.0
    """In which requests counted."""
    stalls: list[float] = field(default_factory=list)
    """The ten longest."""


def phase_of(
    model: str, name: str, answers: list[Answer], windows: list[tuple[float, float]], server: Server, steady: float
) -> Phase:
    counted = [a for a in answers if any(begin <= a.due <= end for begin, end in windows)]
    times = sorted(a.seconds * 1e3 for a in counted) or [math.nan]
    stalls = [stall for stall in server.stalls if any(b <= stall.at <= e + 0.1 for b, e in windows)]
    stalls.sort(key=lambda stall: stall.late, reverse=True)
    longest = stalls[0] if stalls else Stall(0, 0, 0, 0)
    p99 = times[min(len(times) - 1, math.ceil(0.99 * len(times)) - 1)]
    return Phase(
        model=model,
        phase=name,
        requests=len(counted),
        failures=dict(Counter(a.status for a in counted if a.status not in STATUSES)),
        p50=times[len(times) // 2],
        p99=p99,
        max=times[-1],
        stall=longest.late,
        work=longest.work,
        cpu=longest.cpu,
        blocked=max((stall.blocked for stall in stalls), default=0.0),
        ratio=p99 / steady if steady else 1.0,
        seconds=sum(end - begin for begin, end in windows),
        stalls=[stall.late for stall in stalls[:10]],
    )


HEADER = (
    f"{'model':14} {'phase':11} {'s':>6} {'requests':>8} {'failed':>6} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} "
    f"{'p99/steady':>10} {'stall ms':>8} {'work':>6} {'cpu':>6} {'blocked':>7}"
)


def row(p: Phase) -> str:
    return (
        f"{p.model:14} {p.phase:11} {p.seconds:6.1f} {p.requests:8} {sum(p.failures.values()):6} {p.p50:8.1f} "
        f"{p.p99:8.1f} {p.max:8.1f} {p.ratio:10.2f} {p.stall:8.1f} {p.work:6.1f} {p.cpu:6.1f} {p.blocked:7.1f}"
    )


class World:
    """The server's models on disk and in its config."""

    def __init__(self, model: str, exported: Path, folder: Path) -> None:
        self.model = model
        self.exported = exported
        self.folder = folder
        self.labels: dict[str, int] = {}
        self.versions: list[int] = []
        """Of the model, when not the latest but these are wished."""
        self.models = [model]

    def put(self, model: str, version: int) -> None:
        """As a good deployment does it: made aside and renamed into place.

        By hard links: to copy 100 MB takes this process, which sends the requests, long enough for them to be late.
        """
        aside = self.folder / "aside"
        shutil.copytree(self.exported / model / "1", aside, copy_function=os.link)
        (self.folder / model).mkdir(exist_ok=True)
        aside.rename(self.folder / model / str(version))

    def take(self, model: str, version: int) -> None:
        shutil.rmtree(self.folder / model / str(version))

    def config(self) -> Any:
        config = protos.ModelServerConfig()
        for name in self.models:
            source = {"extra": OTHER}.get(name, name)
            entry = config.model_config_list.config.add(
                name=name, base_path=str(self.folder / source), model_platform="tensorflow"
            )
            if name == self.model and self.versions:
                entry.model_version_policy.specific.versions.extend(self.versions)
                entry.version_labels.update(self.labels)
        return config

    def request(self, label: str | None = None) -> bytes:
        shape, signature, alias = {
            "half_plus_two": ((3,), "serving_default", "x"),
            "mobilenet_v2": ((1, 224, 224, 3), "predict_images", "images"),
        }[self.model]
        request = protos.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        if label is not None:
            request.model_spec.version_label = label
        array = np.random.default_rng(0).random(shape, np.float32)
        tensor_proto.encode_into(array, request.inputs[alias], as_content=True)
        return request.SerializeToString()


async def reload(channel: grpc.aio.Channel, world: World) -> tuple[float, float]:
    """When it was called and when it answered."""
    request = protos.ReloadConfigRequest()
    request.config.CopyFrom(world.config())
    call = channel.unary_unary(RELOAD_CONFIG)
    began = time.monotonic()
    response = protos.ReloadConfigResponse.FromString(await call(request.SerializeToString(), timeout=300))
    if response.status.error_code:
        raise RuntimeError(response.status.error_message)
    return began, time.monotonic()


async def swaps(server: Server, world: World, model: str, first: int, changes: int) -> list[tuple[float, float]]:
    windows = []
    for version in range(first, first + changes):
        world.put(model, version)
        begin = await server.state(model, version, "LOADING")
        end = await server.state(model, version - 1, "END")
        windows.append((begin, end))
        world.take(model, version - 1)
        await asyncio.sleep(0.5)
    return windows


async def label_moves(
    server: Server, channel: grpc.aio.Channel, world: World, changes: int
) -> list[tuple[float, float]]:
    windows = []
    for change in range(changes):
        world.labels["stable"] = world.versions[change % len(world.versions)]
        begin, end = await reload(channel, world)
        windows.append((begin, max(end, begin + 1.0)))
        await asyncio.sleep(1.0)
    return windows


async def reloads(server: Server, channel: grpc.aio.Channel, world: World, changes: int) -> list[tuple[float, float]]:
    windows = []
    version = max(int(folder.name) for folder in (world.folder / OTHER).iterdir())  # swaps may have gone before
    for _ in range(changes):
        world.models.append("extra")
        begin, _ = await reload(channel, world)
        world.models.remove("extra")
        await reload(channel, world)
        windows.append((begin, await server.state("extra", version, "END")))
        await asyncio.sleep(0.5)
    return windows


async def measure(
    model: str, exported: Path, phases: Sequence[str], changes: int, steady_seconds: float, options: Any
) -> list[Phase]:
    with tempfile.TemporaryDirectory(prefix="pys") as name:
        world = World(model, exported, Path(name))
        for each in (model, OTHER):
            world.put(each, 1)
        world.models = [model, OTHER] if "other swap" in phases else [model]
        async with running_server(Path(name), world.config(), options.flag) as (server, channel):
            full = await capacity(channel, world.request(), steady_seconds / 4)
            per_second = options.load * full
            print(f"{model}: capacity {full:.0f}/s in a closed loop of 16; sending {per_second:.0f}/s", flush=True)
            print(HEADER, flush=True)
            results: list[Phase] = []

            async def run(phase: str, change: Callable[[], Awaitable[list[tuple[float, float]]]], body: bytes) -> None:
                async with Load(channel, body, per_second) as load:
                    await asyncio.sleep(steady_seconds / 5)
                    windows = await change()
                results.append(
                    phase_of(model, phase, load.answers, windows, server, results[0].p99 if results else 0.0)
                )
                print(row(results[-1]), flush=True)
                for status, count in results[-1].failures.items():
                    print(f"    {count} times {status}")

            async def nothing() -> list[tuple[float, float]]:
                began = time.monotonic()
                await asyncio.sleep(steady_seconds)
                return [(began, time.monotonic())]

            plain = world.request()
            await run("steady", nothing, plain)
            if "swap" in phases:
                await run("swap", lambda: swaps(server, world, model, 2, changes), plain)
            if "other swap" in phases:
                await run("other swap", lambda: swaps(server, world, OTHER, 2, changes), plain)
                world.models.remove(OTHER)
                await reload(channel, world)
                await server.state(OTHER, changes + 1, "END")
                world.put(OTHER, 1)
            if "reload" in phases:
                await run("reload", lambda: reloads(server, channel, world, changes), plain)
            if "labels" in phases:
                world.versions = [100, 101]
                for version in world.versions:
                    world.put(model, version)
                await reload(channel, world)
                for version in world.versions:
                    await server.state(model, version, "AVAILABLE")
                world.labels = {"stable": 100}
                await reload(channel, world)
                labelled = world.request("stable")
                await run("labels", lambda: label_moves(server, channel, world, changes), labelled)
            return results


if __name__ == "__main__":
    main()
