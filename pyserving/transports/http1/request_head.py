"""Request lines and headers, read once for all the requests that begin with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pyserving.errors import ServingError
from pyserving.messages import Authenticate, HttpRequest, QuickPost, QuickPosts

_MAX_HEADS = 1 << 10
_MAX_HEAD_BYTES = 2 << 10


@dataclass(frozen=True, slots=True)
class RequestHead:
    """All that a request says before its body."""

    method: str = ""
    path: str = ""
    tail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    version: str = "1.1"
    keep_alive: bool = False
    """The connection goes on after the answer, as far as the client is concerned."""
    content_length: int | None = 0
    """None: the body comes in chunks."""
    quick_post: QuickPost | None = None
    """Of a plain head that is kept: what may answer its requests at once."""

    @property
    def is_plain(self) -> bool:
        """Whatever request has this head, it is followed by a body of the same length and needs no word in between."""
        headers = self.headers
        return self.keep_alive and self.content_length is not None and not ("expect" in headers or "upgrade" in headers)


class Heads:
    """Plain heads by their bytes, shared by all connections: clients send the same ones again and again.

    Those that are kept have been let in: who shows the same credentials again is not asked for them.
    """

    def __init__(
        self, authenticate: Authenticate | None = None, quick_posts: QuickPosts = lambda request: None
    ) -> None:
        """`quick_posts` is asked of each POST that is kept."""
        self._authenticate = authenticate
        self._quick_posts = quick_posts
        self._heads: dict[bytes, RequestHead] = {}
        self.get = self._heads.get

    def __len__(self) -> int:
        return len(self._heads)

    def refusal(self, head: RequestHead) -> ServingError | None:
        """Why a head must not come in; None when it may."""
        if self._authenticate is not None:
            try:
                self._authenticate(head.method, head.path, head.headers)
            except ServingError as error:
                return error
        return None

    def forget(self) -> None:
        """Heads that were let in have to be let in anew."""
        self._heads.clear()

    def keep(self, text: bytes, head: RequestHead) -> RequestHead:
        """`text`: what was read as `head`, the empty line at its end included. Gives the head, as kept where it is."""
        # A line that ends in a bare LF might have ended the head before the bytes that we took for its end.
        if not head.is_plain or len(text) > _MAX_HEAD_BYTES or text.count(b"\n") != text.count(b"\r\n"):
            return head
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        if head.method == "POST":
            request = HttpRequest(head.method, head.path, head.tail, head.headers)
            head = replace(head, quick_post=self._quick_posts(request))
        self._heads[text] = head
        return head
