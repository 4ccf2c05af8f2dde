"""Brings each HTTP request to the first handler that answers it, whatever transport it came by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyserving.errors import Internal, ServingError, Unavailable
from pyserving.messages import Authenticate, Buffer, HttpHandler, HttpRequest, HttpResponse, QuickPost
from pyserving.transports.admission import Admission, Lease

_log = logging.getLogger(__name__)


class Reception:
    """Handlers are asked in order. POSTs pass through `admission`: they are what runs models; pages about the server's
    state answer always."""

    def __init__(
        self,
        handlers: Sequence[HttpHandler],
        error_response: Callable[[ServingError], HttpResponse],
        admission: Admission,
        not_found: HttpResponse,
        authenticate: Authenticate | None = None,
    ) -> None:
        """`error_response` words the errors that handlers raise; `not_found` answers what nobody does.

        `authenticate` is for `refusal`, which transports ask that have not authenticated requests themselves.
        """
        self._handlers = tuple(handlers)
        self.error_response = error_response
        self.admission = admission
        self._not_found = not_found
        self._authenticate = authenticate
        self._posts = 0
        self._no_posts = asyncio.Event()
        self._no_posts.set()
        self._is_draining = False

    async def drain(self, grace_seconds: float) -> None:
        """Refuse POSTs with UNAVAILABLE from now on and return when those that are in have been answered, or after the
        grace. Pages about the server's state go on."""
        self._is_draining = True
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._no_posts.wait(), grace_seconds)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> HttpResponse | None:
        """For a request that must not come in, whatever its body is. The arguments are HttpRequest's."""
        if self._authenticate is not None:
            try:
                self._authenticate(method, path, headers)
            except ServingError as error:
                return self.error_response(error)
        return None

    def answer(
        self, method: str, path: str, tail: str, headers: Mapping[str, str], body: Buffer
    ) -> HttpResponse | Coroutine[Any, Any, HttpResponse]:
        """The answer, or who will have it; neither raises. The arguments are HttpRequest's."""
        if method == "POST":
            return self._answer_post(method, path, tail, headers, body)
        request = HttpRequest(method, path, tail, headers, body)
        answer = self._ask(request)
        return answer if isinstance(answer, HttpResponse) else self._awaited(request, answer)

    def quick_answer(self, quick: QuickPost, path: str, body: Buffer) -> HttpResponse | None:
        """What a quick handler says to a POST; None: `answer` it, nothing has been done. Does not raise."""
        if self._is_draining or not self.admission.has_room(len(body)):
            return None
        try:
            return quick(body)
        except ServingError as error:
            return self.error_response(error)
        except Exception:
            return self._unexpected("POST", path)

    def _answer_post(
        self, method: str, path: str, tail: str, headers: Mapping[str, str], body: Buffer
    ) -> HttpResponse | Coroutine[Any, Any, HttpResponse]:
        if self._is_draining:
            return replace(self.error_response(Unavailable("The server is shutting down")), closes=True)
        try:
            lease = Lease(self.admission, len(body))
        except ServingError as error:
            return self.error_response(error)
        request = HttpRequest(method, path, tail, headers, body, lease.reserve)
        answer = self._ask(request)
        if isinstance(answer, HttpResponse):
            lease.release()
            return answer
        return self._awaited_post(request, answer, lease)

    async def _awaited_post(
        self, request: HttpRequest, answer: Coroutine[Any, Any, HttpResponse], lease: Lease
    ) -> HttpResponse:
        self._posts += 1
        self._no_posts.clear()
        try:
            return await self._awaited(request, answer)
        finally:
            lease.release()
            self._posts -= 1
            if not self._posts:
                self._no_posts.set()

    async def _awaited(self, request: HttpRequest, answer: Coroutine[Any, Any, HttpResponse]) -> HttpResponse:
        try:
            return await answer
        except ServingError as error:
            return self.error_response(error)
        except Exception:
            return self._unexpected(request.method, request.path)

    def _ask(self, request: HttpRequest) -> HttpResponse | Coroutine[Any, Any, HttpResponse]:
        try:
            for handler in self._handlers:
                answer = handler(request)
                if answer is not None:
                    return answer
        except ServingError as error:
            return self.error_response(error)
        except Exception:
            return self._unexpected(request.method, request.path)
        return self._not_found

    def _unexpected(self, method: str, path: str) -> HttpResponse:
        """While an exception is handled that is nobody's answer."""
        _log.exception("%s %s failed", method, path)
        return self.error_response(Internal("Internal error; the server's log has the details"))
