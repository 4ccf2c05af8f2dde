"""tensorflow.serving.ModelService: the state of versions, and a new list of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.message import parse
from pyserving.core import Core
from pyserving.errors import InvalidArgument
from pyserving.messages import Buffer, CallContext, Method
from pyserving.metrics import Metrics

SERVICE = "tensorflow.serving.ModelService"


@dataclass(frozen=True, slots=True)
class ModelService:
    """The two methods of the service."""

    core: Core
    metrics: Metrics

    def methods(self) -> Mapping[str, Method]:
        """Full method path to method."""
        return {
            f"/{SERVICE}/GetModelStatus": self.get_model_status,
            f"/{SERVICE}/HandleReloadConfigRequest": self.handle_reload_config_request,
        }

    async def get_model_status(self, body: Buffer, call: CallContext) -> bytes:
        request = parse(protos.GetModelStatusRequest, body)
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        response = protos.GetModelStatusResponse()
        for state in self.core.model_status(model_spec.decode(request.model_spec)):
            entry = response.model_version_status.add(version=state.id.version, state=int(state.manager_state))
            entry.status.SetInParent()
            if state.health is not None:
                entry.status.error_code = int(state.health.code)
                entry.status.error_message = state.health.message
        return response.SerializeToString()

    async def handle_reload_config_request(self, body: Buffer, call: CallContext) -> bytes:
        """Answers when every model of the list serves or cannot; the increases of metrics cover that time."""
        request = parse(protos.ReloadConfigRequest, body)
        if request.config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        names = sorted(set(request.metric_names))
        before = [self.metrics.value(name) for name in names]
        await self.core.reload_config(request.config, deadline=call.deadline)
        response = protos.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in zip(names, before, strict=True):
            response.metric.add(name=name, int64_value_increase=self.metrics.value(name) - value)
        return response.SerializeToString()
