"""ModelServer: builds the tree, starts it in order and stops it in reverse. What listens, what finds versions and what
loads them are built by `Listeners`, `storage_path_source` and `SourceAdapter`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from pyserving import config, options, protos
from pyserving.batching.parameters import PoolOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.codec.json.predict import NonFinite
from pyserving.errors import ServingError, Unknown
from pyserving.executors import custom_ops, profiler, xla
from pyserving.frontends import monitoring, openapi, reflection, status_pages
from pyserving.frontends.health import NOT_SERVING, Health
from pyserving.frontends.model_service import ModelService
from pyserving.frontends.prediction_service import PredictionService
from pyserving.frontends.profiler_service import ProfilerService
from pyserving.frontends.rest import RestApi, RestOptions
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.lifecycle.policy import Policy, availability_preserving, resource_preserving
from pyserving.lifecycle.retries import LoadRetries
from pyserving.listeners import Listeners
from pyserving.machine import schedulable_cpus
from pyserving.messages import HttpHandler, HttpRequest, HttpResponse, Method, QuickPost, StreamMethod
from pyserving.metrics import Metrics
from pyserving.model_config import TENSORFLOW_PLATFORM
from pyserving.model_config_file import ModelConfigFile
from pyserving.model_metrics import ModelMetrics
from pyserving.options import Options
from pyserving.outcome import Fate, Outcome, failure_text
from pyserving.platforms import Platform, platforms
from pyserving.request_log.log_files import Bounds
from pyserving.request_log.request_logs import RequestLogs
from pyserving.server_core import ServerCore
from pyserving.source_adapter import SourceAdapter
from pyserving.spare_time import SpareTime
from pyserving.storage_path_source import storage_path_source
from pyserving.transports.reception import Reception
from pyserving.types import ManagerState, ServableState
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_LEAST_TEARDOWN_SECONDS = 1.0
"""For unloading models once the last call is answered, however much of the grace time that took."""
_MOST_COPYING_SECONDS = 120.0
"""Start-up waits no longer for versions that are still being copied; the second look at remote storage comes before."""
_POLICIES: Mapping[str, Policy] = {
    "availability_preserving": availability_preserving,
    "resource_preserving": resource_preserving,
}


class ModelServer:
    """One server. `start()` returns when it answers, `stop()` when what was admitted has been answered."""

    def __init__(self, settings: Options, given: frozenset[str] = frozenset()) -> None:
        """`given` names the flags that were written out: some limit only then."""
        self._settings = settings
        self._given = given
        self._stack = AsyncExitStack()
        self._failure: asyncio.Future[ServingError] | None = None
        self._has_served = False
        self._profiler: ProfilerService | None = None
        self._core: ServerCore | None = None
        self._rest: RestApi
        self._platforms: Mapping[str, Platform] = {}
        self.metrics = Metrics()
        self.monitor = ServableStateMonitor()
        self.health = Health()
        self._model_metrics = ModelMetrics(self.metrics, self.monitor)
        self.monitor.subscribe(self.health.on_state)
        self._listeners = Listeners(settings, given, self.metrics, self._stack)
        self._unready: str | None = "the server is starting"
        """Why the server as a whole takes no requests."""

    async def start(self) -> None:
        """HTTP first, so that health and metrics can be seen while models load; gRPC when the models have settled."""
        settings, enter = self._settings, self._stack.enter_async_context
        self._failure = asyncio.get_running_loop().create_future()
        models = config.model_server_config(settings)
        cpus = schedulable_cpus()
        self._platforms = platforms(settings, cpus)
        config.check_thread_pool_factory(settings)
        await self._listeners.prepare()
        loading = await enter(Workers("load", options.transition_threads(settings.num_load_threads, cpus)))
        unloading = await enter(Workers("unload", options.transition_threads(settings.num_unload_threads, cpus)))
        # A model holds three quarters of them at most: as many as TensorFlow Serving has threads. Processors are busy
        # then where runs wait for threads of their own.
        running = await enter(Workers("run", (16 * cpus + 2) // 3))
        schedulers: dict[PoolOptions, SharedBatchScheduler] = {}
        for pool in {platform.batching.pool for platform in self._platforms.values() if platform.batching is not None}:
            schedulers[pool] = SharedBatchScheduler(await enter(Workers(pool.name, pool.threads)))
        adapter = SourceAdapter(settings, self._platform, running, schedulers, self._model_metrics)
        manager = await enter(self._manager(adapter, loading, unloading))
        if settings.load_in_spare_time:
            adapter.compute = SpareTime(lambda: manager.is_serving)
        else:
            _log.info("Loads make no way for requests: --load_in_spare_time is off")
        prefer_tflite_model = any(platform.config.prefer_tflite_model for platform in self._platforms.values())
        source = await enter(
            storage_path_source(
                settings,
                self._given,
                manager,
                self.monitor,
                self._model_metrics,
                prefer_tflite_model=prefer_tflite_model,
            )
        )
        core = self._core = ServerCore(
            manager,
            self.monitor,
            source,
            allow_version_labels_for_unavailable_models=settings.allow_version_labels_for_unavailable_models,
            platforms=list(self._platforms),
        )
        request_logs = await enter(self._request_logs(await enter(Workers("request-log", 1))))
        core.config_applied.append(request_logs.apply)
        self._rest = RestApi(core, self.metrics, _rest_options(settings), running.submit, request_logs)
        await self._listeners.open_http(self._http_handlers(core), self._rest.error_response, self._quick_posts)
        if options.forbids_xla(settings, self._given):
            await loading.submit(xla.forbid)
        await self._bring_in_ops(loading)
        core.apply_config(models)
        for name in core.model_names:
            self.health.set(name, NOT_SERVING)  # known from the start, whether or not there is a version of it
        await self._wait_for_models(core, models)
        if self._listeners.has_grpc:
            if settings.enable_profiler:
                self._profiler = ProfilerService(partial((await enter(Workers("profile", 1))).submit, profiler.record))
            await self._open_grpc(core, running, request_logs)
        self._unready = None
        self.health.ready()
        self._say_what_runs(core)
        if settings.model_config_file and settings.model_config_file_poll_wait_seconds > 0:
            await enter(self._model_config_file(core, await enter(Workers("config", 1))))

    async def failed(self) -> ServingError:
        """Waits for the one failure that ends a running server: no model became available and no retry is left."""
        assert self._failure is not None, "start() comes first"
        return await self._failure

    def reception(self, not_found: HttpResponse) -> Reception:
        """The REST API and the pages, for a transport that is not the server's own. Drain it before `stop`."""
        assert self._core is not None, "start() comes first"
        return self._listeners.reception(self._http_handlers(self._core), self._rest.error_response, not_found)

    async def stop(self) -> None:
        """Drain: health says NOT_SERVING, new calls are refused, admitted ones are answered within the grace time."""
        self._unready = "the server is shutting down"
        self.health.drain()
        if self._profiler is not None:
            self._profiler.close()  # a trace may be meant to go on for longer than the grace time
        loop = asyncio.get_running_loop()
        grace_seconds = self._settings.shutdown_grace_seconds
        end = loop.time() + grace_seconds
        await self._listeners.drain(grace_seconds)
        # What is left is unloading, and runs that nobody waits for any more. A thread cannot be stopped: should one not
        # come back in time, the process leaves around it.
        closing = asyncio.ensure_future(self._stack.aclose())
        await asyncio.wait({closing}, timeout=max(_LEAST_TEARDOWN_SECONDS, end - loop.time()))
        if closing.done():
            closing.result()
        else:
            _log.warning("Leaving while a model is still at work: its last run or load did not end in time")

    async def _bring_in_ops(self, loading: Workers) -> None:
        """Before any model is loaded. What cannot be had ends the start: no model that needs it could be served."""
        libraries = options.listed(self._settings.custom_op_libraries)
        modules = options.listed(self._settings.import_modules)
        if libraries or modules:
            await loading.submit(custom_ops.bring_in, libraries, modules)

    # Waiting for models.

    async def _wait_for_models(self, core: ServerCore, models: protos.ModelServerConfig) -> None:
        """As tensorflow_model_server with `--strict_startup`; else until each model has settled one way or another."""
        is_strict = self._settings.strict_startup
        written_by = asyncio.get_running_loop().time() + _MOST_COPYING_SECONDS
        await core.settled(written_by=math.inf if is_strict else written_by, is_strict=is_strict)
        failed = [outcome for outcome in core.outcomes() if outcome.fate is Fate.FAILED]
        if is_strict and failed:
            raise Unknown(failure_text(failed, "servable"))
        for refusal in core.label_errors(models):
            if is_strict:
                raise refusal
            _log.warning("%s; the label waits for it", refusal)
        if error := _hopeless(core):
            raise error
        if not any(outcome.fate is Fate.AVAILABLE for outcome in core.outcomes()):
            self.monitor.subscribe(partial(self._fail_when_hopeless, core))

    def _fail_when_hopeless(self, core: ServerCore, state: ServableState) -> None:
        """Once a model has been available, nothing that happens to models ends the server."""
        assert self._failure is not None
        self._has_served |= state.manager_state is ManagerState.AVAILABLE
        if not self._has_served and not self._failure.done() and (error := _hopeless(core)):
            self._failure.set_result(error)

    # Building.

    def _platform(self, name: str) -> Platform:
        assert self._core is not None, "versions are aspired of models that it was told of"
        return self._platforms[self._core.platform(name)]

    def _manager(self, adapter: SourceAdapter, loading: Workers, unloading: Workers) -> AspiredVersionsManager:
        settings = self._settings
        return AspiredVersionsManager(
            adapter,
            loading,
            unloading,
            self.monitor.publish,
            _POLICIES[settings.aspired_version_policy],
            retries=LoadRetries(settings.max_num_load_retries, settings.load_retry_interval_micros),
            on_attempt=self._model_metrics.count_attempt,
            load_patience_seconds=options.transition_patience_seconds(settings.num_load_threads),
            unload_patience_seconds=options.transition_patience_seconds(settings.num_unload_threads),
            reload_replaced_versions=settings.reload_replaced_versions,
        )

    def _model_config_file(self, core: ServerCore, reading: Workers) -> ModelConfigFile:
        settings = self._settings
        return ModelConfigFile(settings.model_config_file, settings.model_config_file_poll_wait_seconds, core, reading)

    def _request_logs(self, writing: Workers) -> RequestLogs:
        settings, tensorflow = self._settings, self._platforms.get(TENSORFLOW_PLATFORM)
        bounds = Bounds(
            settings.request_log_max_file_bytes,
            settings.request_log_max_file_seconds,
            settings.request_log_max_total_bytes,
        )
        return RequestLogs(
            writing,
            self.metrics,
            bounds,
            saved_model_tags=tensorflow.tags if tensorflow is not None else (),
            max_queued_bytes=settings.request_log_max_queued_bytes,
        )

    async def _open_grpc(self, core: ServerCore, running: Workers, request_logs: RequestLogs) -> None:
        settings = self._settings
        prediction = PredictionService(
            core,
            self.metrics,
            max_expanded_tensor_bytes=settings.max_expanded_tensor_bytes,
            enable_serialization_as_tensor_content=settings.enable_serialization_as_tensor_content,
            enable_signature_method_name_check=settings.enable_signature_method_name_check,
            offload=running.submit,
            observer=request_logs,
        )
        methods: dict[str, Method] = {**prediction.methods(), **ModelService(core, self.metrics).methods()}
        if self._profiler is not None:
            methods |= self._profiler.methods()
        streams: dict[str, StreamMethod] = {}
        if settings.enable_grpc_healthcheck_service:
            methods |= self.health.methods
            streams |= self.health.stream_methods
        streams |= reflection.methods(_services(methods, streams))
        await self._listeners.open_grpc(methods, streams, prediction.quick_methods())

    def _quick_posts(self, request: HttpRequest) -> QuickPost | None:
        """Of the REST API, but for a path that the metrics page has taken."""
        is_taken = request.path == config.monitoring_path(self._settings)
        return None if is_taken else self._rest.quick_post(request)

    def _http_handlers(self, core: ServerCore) -> list[HttpHandler]:
        path = config.monitoring_path(self._settings)
        return [
            *([monitoring.handler(self.metrics, path)] if path is not None else []),
            self._rest,
            status_pages.handler(core.model_status, lambda: core.model_names, lambda: self._unready),
            openapi.handler(core),
        ]

    def _say_what_runs(self, core: ServerCore) -> None:
        """The lines that scripts wait for, and one for people on each model."""
        self._listeners.say_where()
        for line in _table(core.outcomes(), self.monitor):
            _log.info("%s", line)


def _hopeless(core: ServerCore) -> ServingError | None:
    """Why there is nothing to serve and nothing left to try; None while there is hope."""
    outcomes = core.outcomes()
    if any(o.fate is Fate.AVAILABLE or not o.is_settled or o.has_retries_left for o in outcomes):
        return None
    failed = [outcome for outcome in outcomes if outcome.fate is Fate.FAILED]
    return Unknown(failure_text(failed, "servable")) if failed else None


def _table(outcomes: Sequence[Outcome], monitor: ServableStateMonitor) -> list[str]:
    """One line for each model: its versions and their states, or why it has none."""
    rows = [("model", "state", "")]
    for outcome in outcomes:
        versions = [
            f"{state.id.version} {state.manager_state.name}"
            for state in monitor.versions(outcome.name)
            if state.manager_state is not ManagerState.END
        ]
        reason = outcome.error.message.partition("\n")[0] if outcome.error is not None else ""
        rows.append((outcome.name, ", ".join(versions) or outcome.fate.value, reason))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"  {name:<{widths[0]}}  {state:<{widths[1]}}  {reason}".rstrip() for name, state, reason in rows]


def _rest_options(settings: Options) -> RestOptions:
    return RestOptions(
        timeout_seconds=settings.rest_api_timeout_in_ms / 1000,
        enable_cors_support=settings.rest_api_enable_cors_support,
        enable_signature_method_name_check=settings.enable_signature_method_name_check,
        max_expanded_tensor_bytes=settings.max_expanded_tensor_bytes,
        nonfinite=NonFinite(settings.rest_nonfinite),
        gzip_answers=settings.rest_gzip_answers,
        takes_tokens=bool(settings.auth_tokens_file),
    )


def _services(*methods: dict[str, Method] | dict[str, StreamMethod]) -> list[str]:
    """Names of the services that the paths belong to."""
    return sorted({path.split("/")[1] for group in methods for path in group})
