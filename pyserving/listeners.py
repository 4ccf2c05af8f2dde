"""Listeners: the gRPC and the HTTP port, with their certificates, tokens and limits, as the flags want them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from pyserving import auth_tokens_file, config, options
from pyserving.auth_tokens_file import AuthTokensFile
from pyserving.codec.predict_wire import ElementsOffset
from pyserving.errors import ServingError
from pyserving.machine import available_memory, granted_cpus, max_open_files
from pyserving.messages import HttpHandler, HttpResponse, Method, QuickMethod, QuickPosts, StreamMethod
from pyserving.metrics import Metrics
from pyserving.options import Options
from pyserving.ssl_config_file import SslConfigFile, open_tls
from pyserving.transports.acceptor import Door
from pyserving.transports.addresses import check_addresses, is_local
from pyserving.transports.admission import THREADPOOL_EXHAUSTED, Admission
from pyserving.transports.busy_poll import BusyPoll
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http1 import HttpServer
from pyserving.transports.http1 import Limits as HttpLimits
from pyserving.transports.http2 import Http2Server
from pyserving.transports.reception import Reception
from pyserving.transports.tls import Tls
from pyserving.transports.tokens import TokenCheck, asks_for_health, is_preflight
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_LEAST_IN_PLACE = 16 << 10
"""Elements of fewer bytes are copied by TensorFlow sooner than they are put in place."""
_CPUS_TO_POLL = 2


class Listeners:
    """Who may connect, how much may be under way at a time, and how it ends. What answers is handed in."""

    def __init__(self, settings: Options, given: frozenset[str], metrics: Metrics, stack: AsyncExitStack) -> None:
        """Whatever is opened is closed with the `stack`. `given` names the flags that were written out."""
        self._settings = settings
        self._metrics = metrics
        self._stack = stack
        self._tls: Tls | None = None
        self._token_check: TokenCheck | None = None
        self._grpc: GrpcioServer | Http2Server | None = None
        self._http: HttpServer | None = None
        self._admission = _admission(settings, given, metrics)
        self._busy_poll = BusyPoll(_busy_poll_seconds(settings), self._admission.is_idle)

    async def prepare(self) -> None:
        """Reads certificates and tokens, which are followed from now on. Whatever could not be listened with or at
        raises before anything is loaded."""
        if self._settings.ssl_config_file:
            self._tls = await self._secured()
        if self._settings.auth_tokens_file:
            self._token_check = await self._checked()
        check_addresses(_grpc_addresses(self._settings))

    async def open_http(
        self,
        handlers: Sequence[HttpHandler],
        error_response: Callable[[ServingError], HttpResponse],
        quick_posts: QuickPosts,
    ) -> None:
        """If there is to be an HTTP port."""
        settings = self._settings
        if not _has_http(settings):
            return
        self._http = await self._stack.enter_async_context(
            HttpServer(
                handlers,
                "",
                settings.rest_api_port,
                error_response=error_response,
                admission=self._admission,
                limits=_http_limits(settings),
                door=self._door("HTTP"),
                quick_posts=quick_posts,
                busy_poll=self._busy_poll,
                authenticate=self._token_check,
            )
        )
        _log.info("Health, status and metrics pages at port %d", settings.rest_api_port)

    @property
    def has_grpc(self) -> bool:
        """Whether there is an address for it."""
        return bool(_grpc_addresses(self._settings))

    async def open_grpc(
        self,
        methods: Mapping[str, Method],
        stream_methods: Mapping[str, StreamMethod],
        quick_methods: Mapping[str, QuickMethod],
    ) -> None:
        """At all addresses that there are for it."""
        http2 = partial(
            Http2Server,
            quick_methods=quick_methods,
            data_offset=ElementsOffset(_LEAST_IN_PLACE),
            door=self._door("gRPC"),
            busy_poll=self._busy_poll,
        )
        transport = http2 if self._settings.grpc_transport == "http2" else partial(GrpcioServer, tls=self._tls)
        self._grpc = await self._stack.enter_async_context(
            transport(
                methods,
                stream_methods,
                addresses=_grpc_addresses(self._settings),
                admission=self._admission,
                authenticate=self._token_check,
                channel_arguments=options.channel_arguments(self._settings),
            )
        )

    def reception(
        self,
        handlers: Sequence[HttpHandler],
        error_response: Callable[[ServingError], HttpResponse],
        not_found: HttpResponse,
    ) -> Reception:
        """For a transport that is not the server's own; the same tokens and limits."""
        return Reception(handlers, error_response, self._admission, not_found, self._token_check)

    def say_where(self) -> None:
        """The lines that scripts wait for."""
        for address in _grpc_addresses(self._settings):
            kind, _, path = address.partition(":")
            place = f"UNIX socket {path}" if kind == "unix" else address
            _log.info("Running gRPC ModelServer at %s ...", place)
        if self._http is not None:
            _log.info("Exporting HTTP/REST API at:localhost:%d ...", self._settings.rest_api_port)

    async def drain(self, grace_seconds: float) -> None:
        """Refuses new calls and returns when those admitted have been answered, or after the grace time."""
        ports = [self._grpc.stop(grace_seconds)] if self._grpc is not None else []
        if self._http is not None:  # its pages answer until the models have gone
            ports.append(self._http.drain(grace_seconds))
        await asyncio.gather(*ports)

    def _door(self, port: str) -> Door:
        """Of the `gRPC` or the `HTTP` port."""
        settings, metrics, tls = self._settings, self._metrics, self._tls
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

    async def _secured(self) -> Tls:
        path, enter = self._settings.ssl_config_file, self._stack.enter_async_context
        tls = open_tls(path)
        await enter(SslConfigFile(path, tls, await enter(Workers("ssl", 1)), self._count_reload))
        return tls

    def _count_reload(self, is_success: bool) -> None:
        self._metrics.certificate_reloads.labels("success" if is_success else "fail").increment()

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
            on_refused=self._metrics.rejected.labels("unauthenticated").increment,
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
        self._metrics.auth_token_reloads.labels("success" if is_success else "fail").increment()
        if is_success and self._http is not None:
            self._http.authenticate_anew()
        if is_success and isinstance(self._grpc, Http2Server):  # grpcio's asks each time
            self._grpc.authenticate_anew()


def _admission(settings: Options, given: frozenset[str], metrics: Metrics) -> Admission:
    """One for both ports."""
    max_calls, max_bytes = options.inflight_limits(settings, available_memory())
    calls, size = metrics.requests_in_flight.labels(), metrics.bytes_in_flight.labels()

    def observe(calls_in_flight: int, bytes_in_flight: int) -> None:
        calls.set(calls_in_flight)
        size.set(bytes_in_flight)

    def shed(reason: str) -> None:
        metrics.rejected.labels(reason).increment()

    if "grpc_max_threads" in given and settings.grpc_max_threads < max_calls:
        return Admission(
            settings.grpc_max_threads,
            max_bytes,
            too_many_calls=THREADPOOL_EXHAUSTED,
            observer=observe,
            on_shed=shed,
        )
    return Admission(max_calls, max_bytes, observer=observe, on_shed=shed)


def _busy_poll_seconds(settings: Options) -> float:
    """0 where clients, and the threads that run models, would wait for the only processor."""
    micros = settings.busy_poll_micros
    return micros / 1e6 if micros and granted_cpus() >= _CPUS_TO_POLL else 0.0


def _has_http(settings: Options) -> bool:
    if settings.rest_api_port and settings.rest_api_port == settings.port:
        _log.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
            "Skipped exporting HTTP/REST API."
        )
        return False
    return settings.rest_api_port != 0


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
