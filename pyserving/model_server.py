"""ModelServer: builds the tree, starts it in order and stops it in reverse. The only file that knows everybody."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class ModelServer:
    """One server. `start()` returns when it answers, `stop()` when what was admitted has been answered."""

    def __init__(self, settings: Options, given: frozenset[str] = frozenset()) -> None:
        """`given` names the flags that were written out: some limit only then."""
        self._settings = settings
        self._given = given
        self._stack = AsyncExitStack()
        self._failure: asyncio.Future[ServingError] | None = None
        self._grpc: GrpcioServer | None = None
        self.metrics = Metrics()
        self.monitor = ServableStateMonitor()
        self.health = Health()

    async def start(self) -> None:
        """HTTP first, so that health and metrics can be seen while models load; gRPC when the models have settled."""
        settings, enter = self._settings, self._stack.enter_async_context
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        models = config.model_server_config(settings)
        addresses = _grpc_addresses(settings)
        check_free(addresses)  # a taken port is told now, not when the models have loaded
        scanning = await enter(Workers("scan", 1))
        loading = await enter(Workers("load", settings.num_load_threads or schedulable_cpus()))
        unloading = await enter(Workers("unload", settings.num_unload_threads or 1))
        running = await enter(Workers("run", 4 * schedulable_cpus()))
        manager = await enter(
            AspiredVersionsManager(
                partial(self._loader, running), loading, unloading, self._publish, retries=_retries(settings)
            )
        )
        source = await enter(
            FileSystemStoragePathSource(
                manager.set_aspired_versions,
                scanning,
                settings.file_system_poll_wait_seconds,
                servable_versions_always_present=settings.servable_versions_always_present,
                incomplete_version_timeout_seconds=settings.incomplete_version_timeout_seconds,
            )
        )
        self.core = core = ServerCore(manager, self.monitor, source)
        if settings.rest_api_port:
            await enter(self._http_server(core))
        core.apply_config(models)
        await self._wait_for_models(core)
        self._grpc = await enter(self._grpc_server(core, addresses))

    async def failed(self) -> ServingError:
        """Waits for the one failure that ends a running server: no model became available and no retry is left."""
        assert self._failure is not None, "start() comes first"
        return await self._failure

    async def stop(self) -> None:
        """Drain: health says NOT_SERVING, new calls are refused, admitted ones are answered within the grace time."""
        self.health.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.shutdown_grace_seconds
        if self._grpc is not None:
            await self._grpc.stop(self._settings.shutdown_grace_seconds)
        try:
            # What is left is unloading, and runs that nobody waits for any more.
            await asyncio.wait_for(self._stack.aclose(), max(_LEAST_TEARDOWN_SECONDS, end - loop.time()))
        except asyncio.TimeoutError:
            _log.warning("Leaving with models still loaded: their last runs did not end in time")

    # Building.

    def _loader(self, running: Workers, version: AspiredVersion) -> ServableLoader[Servable]:
        return ServableLoader(version, self._open_executor, partial(self._servable, running))

    def _open_executor(self, path: str) -> Executor:
        return open_saved_model(
            path,
            tags=options.saved_model_tags(self._settings),
            session_config=config.session_config(self._settings),
        )

    def _servable(self, running: Workers, servable_id: ServableId, executor: Executor) -> Servable:
        return Servable(
            servable_id,
            executor,
            DirectSession(executor, running),
            enable_signature_method_name_check=self._settings.enable_signature_method_name_check,
        )
