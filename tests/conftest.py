"""SavedModels for the tests of one session, exported when first asked for and shared by its processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.models import export_once

Exported = Callable[[Callable[[Path], None]], Path]


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
