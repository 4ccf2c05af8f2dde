"""ModelService, bytes in and bytes out."""

from __future__ import annotations

import pytest

from pyserving import protos
from pyserving.errors import InvalidArgument, NotFound, Unknown
from pyserving.frontends.model_service import ModelService
from pyserving.messages import CallContext
from pyserving.metrics import Metrics
from pyserving.types import ManagerState, ServableId, ServableState
from tests.fake_core import FakeCore

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


@pytest.fixture
def core() -> FakeCore:
    return FakeCore({}, lambda feeds: {})


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def status(core: FakeCore, metrics: Metrics) -> protos.GetModelStatusResponse:
    request = protos.GetModelStatusRequest()
    request.model_spec.name = "m"
    body = await ModelService(core, metrics).methods()[STATUS](request.SerializeToString(), CallContext())
    return protos.GetModelStatusResponse.FromString(body)


@pytest.mark.proves(
    "rpc ModelService.GetModelStatus",
    "field GetModelStatusRequest.model_spec",
    "field GetModelStatusResponse.model_version_status",
    "field ModelVersionStatus.version",
    "field ModelVersionStatus.state",
    "field ModelVersionStatus.status",
    "field StatusProto.error_code",
    "field StatusProto.error_message",
)
async def test_status_shows_states_and_errors(core: FakeCore, metrics: Metrics) -> None:
    core.states = [
        ServableState(ServableId("m", 2), ManagerState.LOADING, NotFound("no graph" + "!" * 2000)),
        ServableState(ServableId("m", 1), ManagerState.AVAILABLE),
    ]
    newest, old = (await status(core, metrics)).model_version_status
    assert (newest.version, newest.state, newest.status.error_code) == (2, 20, 5)
    assert newest.status.error_message == "no graph" + "!" * 2000, "never cut, unlike a call's own message"
    assert (old.version, old.state, old.status.error_code, old.status.error_message) == (1, 30, 0, "")
    assert old.HasField("status")


async def test_status_of_nothing(core: FakeCore, metrics: Metrics) -> None:
    with pytest.raises(NotFound, match=r"^Could not find any versions of model m$"):
        await status(core, metrics)
    with pytest.raises(InvalidArgument, match=r"^Missing ModelSpec$"):
        await ModelService(core, metrics).methods()[STATUS](b"", CallContext())


def reload_request(*metric_names: str) -> protos.ReloadConfigRequest:
    request = protos.ReloadConfigRequest(metric_names=metric_names)
    request.config.model_config_list.SetInParent()
    return request


@pytest.mark.proves(
    "field ReloadConfigRequest.metric_names",
    "field ReloadConfigResponse.status",
    "field ReloadConfigResponse.metric",
    "field Metric.name",
    "field Metric.int64_value_increase",
)
async def test_a_reload_answers_ok_and_what_the_metrics_grew_by(core: FakeCore, metrics: Metrics) -> None:
    counted = "/tensorflow/core/direct_session_runs"
    metrics.direct_session_runs.labels().increment(5)
    core.while_reloading = lambda: metrics.direct_session_runs.labels().increment(3)
    service = ModelService(core, metrics)
    name = "/tensorflow/serving/request_latency"
    request = reload_request(counted, counted, "/no/such", name).SerializeToString()
    body = await service.methods()[RELOAD](request, CallContext(deadline=3.0))
    response = protos.ReloadConfigResponse.FromString(body)
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert {metric.name: metric.int64_value_increase for metric in response.metric} == {
        counted: 3,
        "/no/such": 0,
        name: 0,
    }
    assert core.deadlines == [3.0]
    assert len(core.reloaded) == 1


async def test_a_reload_that_fails_says_so(core: FakeCore, metrics: Metrics) -> None:
    core.reload_error = Unknown("1 model(s) did not become available: ...")
    with pytest.raises(Unknown, match="did not become available"):
        await ModelService(core, metrics).methods()[RELOAD](reload_request().SerializeToString(), CallContext())


@pytest.mark.proves("field ModelServerConfig.custom_model_config")
@pytest.mark.parametrize("kind", [None, "custom_model_config"])
async def test_only_a_list_of_models_can_be_reloaded(core: FakeCore, metrics: Metrics, kind: str | None) -> None:
    request = protos.ReloadConfigRequest()
    if kind is not None:
        getattr(request.config, kind).SetInParent()
    with pytest.raises(InvalidArgument) as raised:
        await ModelService(core, metrics).methods()[RELOAD](request.SerializeToString(), CallContext())
    assert raised.value.message == (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )
    assert core.reloaded == []
