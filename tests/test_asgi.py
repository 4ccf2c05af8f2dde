from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyserving.asgi import application
from tests import models
from tests.asgi_server import AsgiServer
from tests.conftest import Exported

pytestmark = pytest.mark.slow


async def test_a_whole_server_is_an_application(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1").symlink_to(exported(models.half_plus_two))
    server = AsgiServer(application(model_name="m", model_base_path=str(tmp_path / "m")))

    async def meanwhile() -> None:
        status, headers, body = await server.ask("/v1/models/m:predict", (b'{"instances": [1, 2, 5]}',), "POST")
        assert (status, headers[b"x-model-version"]) == (200, b"1")
        assert json.loads(body) == {"predictions": [2.5, 3.0, 4.5]}
        assert (await server.ask("/readyz"))[0] == 200
        assert b"request_count" in (await server.ask("/monitoring/prometheus/metrics"))[2]
        assert "/v1/models/m:predict" in json.loads((await server.ask("/openapi.json"))[2])["paths"]

    said = await server.live(meanwhile)
    assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
