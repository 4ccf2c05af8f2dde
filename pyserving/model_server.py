"""ModelServer: builds the tree, starts it in order and stops it in reverse. The only file that knows everybody."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from pyserving import auth_tokens_file, config, options, protos
from pyserving.auth_tokens_file import AuthTokensFile
from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import PoolOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.batching_session import BatchingSession
from pyserving.codec.json.predict import NonFinite
from pyserving.codec.predict_wire import elements_offset
from pyserving.errors import Code, ServingError, Unknown
from pyserving.executors import custom_ops, profiler, xla
from pyserving.executors.executor import Executor
from pyserving.executors.version_folder import has_file
from pyserving.frontends import monitoring, openapi, reflection, status_pages
from pyserving.frontends.health import NOT_SERVING, Health
from pyserving.frontends.model_service import ModelService
from pyserving.frontends.prediction_service import PredictionService
from pyserving.frontends.profiler_service import ProfilerService
from pyserving.frontends.rest import RestApi, RestOptions
from pyserving.lifecycle.attempt import Action, Attempt
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.lifecycle.policy import Policy, availability_preserving, resource_preserving
from pyserving.lifecycle.retries import LoadRetries
from pyserving.loader import ServableLoader
from pyserving.loop_time import LoopTime
from pyserving.machine import available_memory, max_open_files, schedulable_cpus
from pyserving.messages import HttpHandler, HttpRequest, HttpResponse, Method, QuickPost, StreamMethod
from pyserving.metrics import Metrics, RunCount
from pyserving.model_config import TENSORFLOW_PLATFORM
from pyserving.model_config_file import ModelConfigFile
from pyserving.options import Options
from pyserving.outcome import Fate, Outcome, failure_text
from pyserving.platforms import Platform, platforms
from pyserving.request_log.log_files import Bounds
from pyserving.request_log.request_logs import RequestLogs
from pyserving.servable import Servable
from pyserving.server_core import ServerCore
from pyserving.session import DirectSession, Session
from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.sources.fsspec_storage import FsspecStorage
from pyserving.sources.model_cache import ModelCache
from pyserving.sources.remote_storage import RemoteStorage
from pyserving.sources.source_router import SourceRouter
from pyserving.sources.storage import is_remote
from pyserving.sources.version_copy import VersionCopy
from pyserving.spare_time import SpareTime, at_once
from pyserving.ssl_config_file import SslConfigFile, open_tls
from pyserving.transports.acceptor import Door
from pyserving.transports.addresses import check_addresses, is_local
from pyserving.transports.admission import THREADPOOL_EXHAUSTED, Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http1 import HttpServer
from pyserving.transports.http1 import Limits as HttpLimits
from pyserving.transports.http2 import Http2Server
from pyserving.transports.reception import Reception
from pyserving.transports.tls import Tls
from pyserving.transports.tokens import TokenCheck, asks_for_health, is_preflight
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableState
from pyserving.warmup import Warmup, WarmupReport, no_warmup
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_LEAST_TEARDOWN_SECONDS = 1.0
"""For unloading models once the last call is answered, however much of the grace time that took."""

_REMOTE_QUIET_SECONDS = 5.0
"""Copying to remote storage goes file by file, each there at once, with pauses in between."""
_REMOTE_INCOMPLETE_SECONDS = 600.0
"""Of a file that is uploaded nothing is seen before its end."""
_REMOTE_ANSWER_SECONDS = 60.0
"""Graphs are fetched whole, requests are tried again, and the first of them waits for TensorFlow to be imported."""
_REMOTE_CLOCK_MARGIN_SECONDS = 60.0
"""Object stores keep good time, and refuse clients that do not."""
_MOST_COPYING_SECONDS = 120.0
"""Start-up waits no longer for versions that are still being copied; the second look at remote storage comes before."""
_MOST_STUCK_SCANS = 256
_HTTP2 = partial(Http2Server, data_offset=partial(elements_offset, at_least=16 << 10))
"""Elements fewer than these are copied by TensorFlow sooner than they are put in place."""
_MLMD_FILE = "assets.extra/mlmd_uuid"
"""In a version folder: the model's name in a store of machine-learning metadata."""
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
        self._grpc: GrpcioServer | Http2Server | None = None
        self._http: HttpServer | None = None
        self._profiler: ProfilerService | None = None
        self._core: ServerCore | None = None
        self._rest: RestApi
        self._tls: Tls | None = None
        self._token_check: TokenCheck | None = None
        self._platforms: Mapping[str, Platform] = {}
        self._schedulers: dict[PoolOptions, SharedBatchScheduler] = {}
        self._with_mlmd: deque[ServableId] = deque()
        """Loaded with a file of their own for it, and not counted yet."""
        self._loop_time = LoopTime()
        self._compute: Callable[..., Any] = at_once
        """Calls what takes TensorFlow long in a load."""
        self.metrics = Metrics()
        self.monitor = ServableStateMonitor()
        self.health = Health()
        self.monitor.subscribe(self._count_state)
        self.monitor.forgotten.append(self._forget_state)
        self.monitor.subscribe(self.health.on_state)
        self._admission = self._new_admission()
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
        if settings.ssl_config_file:
            self._tls = await self._secured()
        if settings.auth_tokens_file:
            self._token_check = await self._checked()
        check_addresses(_grpc_addresses(settings))
        # Storage may keep threads for good: one each, as many as there are base paths within reason.
        scanning, scanning_remote = [
            await enter(Workers(name, threads, max_stand_ins=_MOST_STUCK_SCANS, waits_at_close=False))
            for name, threads in (("scan", 1), ("scan-remote", 4))
        ]
        loading = await enter(Workers("load", options.transition_threads(settings.num_load_threads, cpus)))
        unloading = await enter(Workers("unload", options.transition_threads(settings.num_unload_threads, cpus)))
        # A model holds three quarters of them at most: as many as TensorFlow Serving has threads. Processors are busy
        # then where runs wait for threads of their own.
        running = await enter(Workers("run", (16 * cpus + 2) // 3))
        for pool in {platform.batching.pool for platform in self._platforms.values() if platform.batching is not None}:
            self._schedulers[pool] = SharedBatchScheduler(await enter(Workers(pool.name, pool.threads)))
        manager = await enter(self._manager(loading, unloading, running))
        if settings.load_in_spare_time:
            self._compute = SpareTime(lambda: manager.is_serving)
        else:
            _log.info("Loads make no way for requests: --load_in_spare_time is off")
        source = await enter(self._source(manager, scanning, scanning_remote))
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
        if self._has_http():
            self._http = await enter(self._http_server(core))
            _log.info("Health, status and metrics pages at port %d", settings.rest_api_port)
        if options.forbids_xla(settings, self._given):
            await loading.submit(xla.forbid)
        await self._bring_in_ops(loading)
        core.apply_config(models)
        for name in core.model_names:
            self.health.set(name, NOT_SERVING)  # known from the start, whether or not there is a version of it
        await self._wait_for_models(core, models)
        if _grpc_addresses(settings):
            if settings.enable_profiler:
                self._profiler = ProfilerService(partial((await enter(Workers("profile", 1))).submit, profiler.record))
            self._grpc = await enter(self._grpc_server(core, running, request_logs))
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
        handlers = self._http_handlers(self._core)
        return Reception(handlers, self._rest.error_response, self._admission, not_found, self._token_check)

    async def stop(self) -> None:
        """Drain: health says NOT_SERVING, new calls are refused, admitted ones are answered within the grace time."""
        self._unready = "the server is shutting down"
        self.health.drain()
        if self._profiler is not None:
            self._profiler.close()  # a trace may be meant to go on for longer than the grace time
        loop = asyncio.get_running_loop()
        grace_seconds = self._settings.shutdown_grace_seconds
        end = loop.time() + grace_seconds
        ports = [self._grpc.stop(grace_seconds)] if self._grpc is not None else []
        if self._http is not None:  # its pages answer until the models have gone
            ports.append(self._http.drain(grace_seconds))
        await asyncio.gather(*ports)
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

    def _manager(self, loading: Workers, unloading: Workers, running: Workers) -> AspiredVersionsManager:
        settings = self._settings
        return AspiredVersionsManager(
            partial(self._loader, running),
            loading,
            unloading,
            self.monitor.publish,
            _POLICIES[settings.aspired_version_policy],
            retries=LoadRetries(settings.max_num_load_retries, settings.load_retry_interval_micros),
            on_attempt=self._count_attempt,
            load_patience_seconds=options.transition_patience_seconds(settings.num_load_threads),
            unload_patience_seconds=options.transition_patience_seconds(settings.num_unload_threads),
            reload_replaced_versions=settings.reload_replaced_versions,
        )

    def _source(self, manager: AspiredVersionsManager, scanning: Workers, scanning_remote: Workers) -> SourceRouter:
        settings = self._settings
        is_given = "file_system_poll_wait_seconds" in self._given
        poll_seconds = settings.file_system_poll_wait_seconds
        remote_poll_seconds, remote_least_seconds = options.remote_poll_seconds(poll_seconds if is_given else None)
        source = partial(
            FileSystemStoragePathSource,
            servable_versions_always_present=settings.servable_versions_always_present,
            on_problem=self._listing_problem,
            on_version_changed=manager.files_changed,
            on_scanned=self.monitor.recheck,
            prefer_tflite_model=any(platform.config.prefer_tflite_model for platform in self._platforms.values()),
        )
        return SourceRouter(
            manager.set_aspired_versions,
            local=partial(
                source,
                scanning=scanning,
                poll_wait_seconds=poll_seconds,
                incomplete_version_timeout_seconds=settings.incomplete_version_timeout_seconds,
            ),
            remote=partial(
                source,
                scanning=scanning_remote,
                poll_wait_seconds=remote_poll_seconds,
                incomplete_version_timeout_seconds=(
                    settings.incomplete_version_timeout_seconds
                    if "incomplete_version_timeout_seconds" in self._given
                    else _REMOTE_INCOMPLETE_SECONDS
                ),
                quiet_seconds=_REMOTE_QUIET_SECONDS,
                answer_seconds=_REMOTE_ANSWER_SECONDS,
                clock_margin_seconds=_REMOTE_CLOCK_MARGIN_SECONDS,
                least_wait_seconds=remote_least_seconds,
                on_listed=self._count_listings,
                storage=RemoteStorage(),
            ),
        )

    def _model_config_file(self, core: ServerCore, reading: Workers) -> ModelConfigFile:
        settings = self._settings
        return ModelConfigFile(settings.model_config_file, settings.model_config_file_poll_wait_seconds, core, reading)

    async def _secured(self) -> Tls:
        path, enter = self._settings.ssl_config_file, self._stack.enter_async_context
        tls = open_tls(path)
        await enter(SslConfigFile(path, tls, await enter(Workers("ssl", 1)), self._count_reload))
        return tls

    async def _checked(self) -> TokenCheck:
        settings, enter = self._settings, self._stack.enter_async_context
        path = settings.auth_tokens_file
        check = TokenCheck(
            auth_tokens_file.read_tokens(path),
            exempt=[
                *([asks_for_health] if settings.auth_exempt_health else []),
                *([is_preflight] if settings.rest_api_enable_cors_support else []),
            ],
            never_exempt=[config.monitoring_path(settings) or ""],  # its file may put it anywhere
            on_refused=self.metrics.rejected.labels("unauthenticated").increment,
        )
        reading = await enter(Workers("auth-tokens", 1))
        await enter(AuthTokensFile(path, check, reading, self._tokens_changed))
        _log.info("Requests must show one of the tokens of %s: %s", path, auth_tokens_file.in_words(check.tokens))
        for place in self._open_places():
            _log.warning("Tokens come in the clear to %s; --ssl_config_file would hide them", place)
        return check

    def _open_places(self) -> list[str]:
        """Where others than this machine connect, and nothing secures that."""
        settings = self._settings
        places = [place for place in _grpc_addresses(settings) if self._tls is None and not is_local(place)]
        if settings.rest_api_port not in (0, settings.port) and not self._secures_http:
            places.append(f"HTTP port {settings.rest_api_port}")
        return places

    def _tokens_changed(self, is_success: bool) -> None:
        self.metrics.auth_token_reloads.labels("success" if is_success else "fail").increment()
        if is_success and self._http is not None:
            self._http.authenticate_anew()
        if is_success and isinstance(self._grpc, Http2Server):  # grpcio's asks each time
            self._grpc.authenticate_anew()

    def _loader(self, running: Workers, version: AspiredVersion) -> ServableLoader[Servable]:
        assert self._core is not None, "versions are aspired of models that it was told of"
        platform = self._platforms[self._core.platform(version.id.name)]
        copy = None
        if is_remote(version.path):
            copy = VersionCopy(version, ModelCache(self._settings.model_cache_dir), FsspecStorage())
        return ServableLoader(
            version,
            partial(self._open_executor, platform, version.id),
            partial(self._servable, running, platform),
            self._warm_up(platform),
            copy,
        )

    def _open_executor(self, platform: Platform, servable_id: ServableId, path: str) -> Executor:
        """In a loading thread."""
        executor = platform.open(servable_id, path, self._compute)
        if platform.config.enable_session_metadata and has_file(path, _MLMD_FILE):
            self._with_mlmd.append(servable_id)
        return executor

    def _servable(
        self, running: Workers, platform: Platform, path: str, servable_id: ServableId, executor: Executor
    ) -> Servable:
        """In a loading thread."""
        count = RunCount(self.metrics, servable_id.name, str(servable_id.version))
        direct = DirectSession(executor, running, count, self._loop_time)
        servable = Servable(
            servable_id,
            executor,
            self._session(platform, direct, count, path, servable_id, executor),
            enable_signature_method_name_check=self._settings.enable_signature_method_name_check,
        )
        # What stays for long is no business of the collector's, which stops requests while it looks. Unloading needs
        # no collection: a model's objects go when they are let go of.
        gc.collect()
        gc.freeze()
        return servable

    def _session(
        self,
        platform: Platform,
        direct: DirectSession,
        count: RunCount,
        path: str,
        servable_id: ServableId,
        executor: Executor,
    ) -> Session:
        """In a loading thread."""
        batching = platform.batching
        if batching is None or not executor.may_be_batched:
            return direct
        queue = batching.queue or config.version_queue_options(path, _read_version_file)
        if queue is None:
            return direct
        return BatchingSession(
            direct,
            self._schedulers[batching.pool],
            queue,
            partial(BatchCounts, self.metrics, servable_id.name, str(servable_id.version)),
            executor.signature_defs,
            observe=count,
            loop_time=self._loop_time,
            may_rerun=not executor.may_change,
        )

    def _warm_up(self, platform: Platform) -> Callable[[str, Servable, WarmupReport], None]:
        settings = self._settings
        if not platform.config.enable_model_warmup:
            return no_warmup
        return Warmup(
            platform.config.model_warmup_options,
            max_expanded_tensor_bytes=settings.max_expanded_tensor_bytes,
            enable_signature_method_name_check=settings.enable_signature_method_name_check,
        )

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

    def _grpc_server(self, core: ServerCore, running: Workers, request_logs: RequestLogs) -> GrpcioServer | Http2Server:
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
        http2 = partial(_HTTP2, quick_methods=prediction.quick_methods(), door=self._door("gRPC"))
        transport = http2 if settings.grpc_transport == "http2" else partial(GrpcioServer, tls=self._tls)
        return transport(
            methods,
            streams,
            addresses=_grpc_addresses(settings),
            admission=self._admission,
            authenticate=self._token_check,
            channel_arguments=options.channel_arguments(settings),
        )

    def _door(self, port: str) -> Door:
        """Of the `gRPC` or the `HTTP` port."""
        settings, metrics, tls = self._settings, self.metrics, self._tls
        limit = options.connection_limit(settings, max_open_files())
        refused, failed = metrics.rejected.labels("connections"), metrics.tls_handshake_failures.labels(port)
        if tls is None or (port == "HTTP" and not self._secures_http):
            return Door(limit, on_refused=refused.increment)

        def context() -> ssl.SSLContext:
            return tls.credentials.h2 if port == "gRPC" else tls.credentials.http1

        return Door(limit, context, on_refused=refused.increment, on_failed_handshake=failed.increment)

    @property
    def _secures_http(self) -> bool:
        return self._tls is not None and self._settings.rest_api_ssl

    def _new_admission(self) -> Admission:
        settings = self._settings
        max_calls, max_bytes = options.inflight_limits(settings, available_memory())
        calls, size = self.metrics.requests_in_flight.labels(), self.metrics.bytes_in_flight.labels()

        def observe(calls_in_flight: int, bytes_in_flight: int) -> None:
            calls.set(calls_in_flight)
            size.set(bytes_in_flight)

        def shed(reason: str) -> None:
            self.metrics.rejected.labels(reason).increment()

        if "grpc_max_threads" in self._given and settings.grpc_max_threads < max_calls:
            return Admission(
                settings.grpc_max_threads,
                max_bytes,
                too_many_calls=THREADPOOL_EXHAUSTED,
                observer=observe,
                on_shed=shed,
            )
        return Admission(max_calls, max_bytes, observer=observe, on_shed=shed)

    def _http_server(self, core: ServerCore) -> HttpServer:
        settings = self._settings
        return HttpServer(
            self._http_handlers(core),
            "",
            settings.rest_api_port,
            error_response=self._rest.error_response,
            admission=self._admission,
            limits=_http_limits(settings),
            door=self._door("HTTP"),
            quick_posts=self._quick_posts,
            authenticate=self._token_check,
        )

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

    # Watching.

    def _count_state(self, state: ServableState) -> None:
        name, version = state.id.name, str(state.id.version)
        self.metrics.know_model(name)
        self.metrics.model_version_state.labels(name, version).set(int(state.manager_state))

    def _forget_state(self, id: ServableId) -> None:
        self.metrics.model_version_state.remove(id.name, str(id.version))

    def _count_attempt(self, attempt: Attempt) -> None:
        metrics, loader = self.metrics, attempt.loader
        if attempt.error is not None and attempt.error.code is not Code.CANCELLED:
            failures = metrics.load_failures if attempt.action is Action.LOAD else metrics.unload_failures
            failures.labels(attempt.id.name, str(attempt.id.version), attempt.error.code.name).increment()
        assert isinstance(loader, ServableLoader), "all are made by _loader"
        for opening in loader.take_attempts():
            status = "success" if opening.has_succeeded else "fail"
            metrics.load_attempt_count.labels(loader.path, status).increment()
            metrics.load_latency.labels(loader.path).increment(round(opening.micros))
        for fetch in loader.take_fetches():
            self._count_listings(attempt.id.name, fetch.listings)
            metrics.remote_fetched_bytes.labels(attempt.id.name).increment(fetch.fetched_bytes)
        for warmup in loader.take_warmups():
            warmup.count_into(metrics)
        while self._with_mlmd:
            loaded = self._with_mlmd.popleft()
            metrics.mlmd_map.labels(loaded.name, str(loaded.version)).set(0)  # as the page shows a gauge of text

    def _count_listings(self, name: str, listings: int) -> None:
        if listings:
            self.metrics.remote_listings.labels(name).increment(listings)

    def _count_reload(self, is_success: bool) -> None:
        self.metrics.certificate_reloads.labels("success" if is_success else "fail").increment()

    def _listing_problem(self, name: str, reason: str) -> None:
        self.metrics.listing_problems.labels(name).increment()
        self.monitor.recheck()

    def _has_http(self) -> bool:
        settings = self._settings
        if settings.rest_api_port and settings.rest_api_port == settings.port:
            _log.error(
                "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
                "Skipped exporting HTTP/REST API."
            )
            return False
        return settings.rest_api_port != 0

    def _say_what_runs(self, core: ServerCore) -> None:
        """The lines that scripts wait for, and one for people on each model."""
        for address in _grpc_addresses(self._settings):
            kind, _, path = address.partition(":")
            place = f"UNIX socket {path}" if kind == "unix" else address
            _log.info("Running gRPC ModelServer at %s ...", place)
        if self._http is not None:
            _log.info("Exporting HTTP/REST API at:localhost:%d ...", self._settings.rest_api_port)
        for line in _table(core.outcomes(), self.monitor):
            _log.info("%s", line)


def _read_version_file(path: str) -> bytes | None:
    from pyserving.executors import tf_file  # imports TensorFlow, which the model's load has done already

    return tf_file.read(path)


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


def _http_limits(settings: Options) -> HttpLimits:
    return HttpLimits(
        max_head_bytes=settings.rest_max_header_bytes,
        max_body_bytes=settings.rest_max_body_bytes,
        idle_timeout_seconds=settings.rest_idle_timeout_seconds,
        stall_timeout_seconds=settings.rest_stall_timeout_seconds,
    )


def _grpc_addresses(settings: Options) -> list[str]:
    addresses = [f"0.0.0.0:{settings.port}"] if settings.port else []
    if settings.grpc_socket_path:
        addresses.append(f"unix:{settings.grpc_socket_path}")
    return addresses


def _services(*methods: dict[str, Method] | dict[str, StreamMethod]) -> list[str]:
    """Names of the services that the paths belong to."""
    return sorted({path.split("/")[1] for group in methods for path in group})
