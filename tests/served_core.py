"""A FakeCore behind a real port, in a thread, for clients that wait in the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from pyserving import protos
from pyserving.core import RequestObserver
from pyserving.frontends.model_service import ModelService
from pyserving.frontends.prediction_service import PredictionService
from pyserving.messages import Authenticate
from pyserving.metrics import Metrics
from pyserving.signature import CLASSIFY_METHOD_NAME, DataType, SignatureDef, TensorInfo
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.tls import Identity, Tls, credentials_of
from pyserving.types import ModelSpec, ServableId
from tests.fake_core import FakeCore

SIGNATURES = {
    "serving_default": SignatureDef(
        {
            "x": TensorInfo("x:0", DataType.DT_FLOAT, (-1,)),
            "words": TensorInfo("words:0", DataType.DT_STRING, (-1,)),
        },
        {
            "y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,)),
            "capitals": TensorInfo("capitals:0", DataType.DT_STRING, (-1,)),
        },
    ),
    "classify": SignatureDef(
        {"inputs": TensorInfo("examples:0", DataType.DT_STRING, (-1,))},
        {"scores": TensorInfo("scores:0", DataType.DT_FLOAT, (-1, 2))},
        CLASSIFY_METHOD_NAME,
    ),
}


class TimesCore(FakeCore):
    """Model `m`: multiplies `x` by `factor`, and writes `words` in capitals."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__(SIGNATURES, self._times)
        self._factor = np.float32(factor)

    def _times(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        if "examples:0" in feeds:
            scores = np.array([[0.25, 0.75]] * len(feeds["examples:0"]), np.float32)
            return {"scores:0": scores * self._factor}
        words = feeds.get("words:0", np.array([], object))
        return {
            "y:0": feeds["x:0"] * self._factor,
            "capitals:0": np.array([word.upper() for word in words.ravel()], object),
        }

    def metadata(self, spec: ModelSpec) -> tuple[ServableId, bytes]:
        servable_id, signatures = self.signatures(spec)
        made = protos.SignatureDefMap()
        for name, signature in signatures.items():
            made.signature_def[name].method_name = signature.method_name
            for aliases, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
                for alias, info in tensors.items():
                    proto = getattr(made.signature_def[name], aliases)[alias]
                    proto.name, proto.dtype = info.name, info.dtype
                    for size in info.shape or ():
                        proto.tensor_shape.dim.add(size=size)
        return servable_id, made.SerializeToString()


class ServedCore:
    """Serves `core` on a port of its own; `with` stops it."""

    def __init__(
        self,
        core: FakeCore,
        observer: RequestObserver | None = None,
        identity: Identity | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        self.core = core
        self._authenticate = authenticate
        self._identity = identity
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        metrics = Metrics()
        self._methods = {
            **PredictionService(core, metrics, observer=observer).methods(),
            **ModelService(core, metrics).methods(),
        }

    def __enter__(self) -> ServedCore:
        self._thread.start()
        self._server = self.run(self._started())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._server.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._server.ports[0]}"

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """On the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _started(self) -> GrpcioServer:
        tls = Tls(credentials_of(self._identity)) if self._identity is not None else None
        server = GrpcioServer(
            self._methods,
            {},
            addresses=["127.0.0.1:0"],
            admission=Admission(100, 1 << 30),
            tls=tls,
            authenticate=self._authenticate,
        )
        return await server.__aenter__()
