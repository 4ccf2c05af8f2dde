"""What all tests share: SavedModels, exported when first asked for, and how the tests are divided among processes."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pyserving.machine import schedulable_cpus
from tests.certificates import Authority
from tests.models import export_once

Exported = Callable[[Callable[[Path], None]], Path]

# Machines may be busy: how long an example takes tells nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: tests that take seconds wait for servers half of the time, which leaves room for another worker."""
    processors = schedulable_cpus()
    return processors if "not slow" in config.option.markexpr else processors + (processors + 1) // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among several workers, files with tests that take seconds come first: none is left over for the end, when
    there would be nothing for the others to do."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """All modules with what they import, TensorFlow among it, and all tests are there to stay; full collections, of
    which there are many, need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """`exported(models.counter)` is the folder of version 1; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "saved_models"
    cache.mkdir(exist_ok=True)
    return lambda export: export_once(cache, export)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """It vouches for servers and for clients."""
    return Authority(tmp_path_factory.mktemp("authority"))
