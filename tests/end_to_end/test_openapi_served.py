"""What /openapi.json promises, asked of the server that gives it by requests that schemathesis makes up from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests import models
from tests.conftest import Exported
from tests.end_to_end.server_process import ServerProcess, free_port

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
pytestmark = pytest.mark.slow

_UNAVOIDABLE = (501, 504)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "m").mkdir()
    (folder / "m" / "1").symlink_to(exported(models.half_plus_two))
    port = free_port()
    with ServerProcess("--model_name=m", f"--model_base_path={folder}/m", f"--rest_api_port={port}"):
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


def test_every_operation_answers_as_the_document_has_it(schema: Any) -> None:
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 11
    for operation in operations:
        statuses = _asked(operation)
        assert statuses, operation.label
        if operation.path.endswith(("/v1/models", "/v1/models/m", "/metadata", "z", "m:predict")):
            assert 200 in statuses, operation.label


def _asked(operation: Any) -> set[int]:
    """The statuses of answers to made-up requests, each of which was found to be as documented."""
    statuses: set[int] = set()

    @given(case=operation.as_strategy())
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        response = case.call(timeout=60)
        documented = operation.definition.raw["responses"]
        assert str(response.status_code) in documented
        assert response.status_code < 500 or response.status_code in _UNAVOIDABLE
        (kind,) = documented[str(response.status_code)]["content"]
        assert response.headers["content-type"] == [kind]
        statuses.add(response.status_code)

    ask()
    return statuses
