"""What an ASGI server does with an application, by hand."""

from __future__ import annotations

from typing import Any


class AsgiServer:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def ask(self, path: str, body: Any = (b"",), method: str = "GET", **scope: Any) -> Any:
        """Status, headers and body."""
        pieces = list(body)
        sent = []

        async def receive():
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
        } | scope
        await self.app(scope, receive, send)
        start, content = sent
        assert (start["type"], content["type"]) == ("http.response.start", "http.response.body")
        return start["status"], dict(start["headers"]), content["body"]

    async def live(self, meanwhile: Any = None) -> list[Any]:
        """A whole lifespan; what the application said of it."""
        said = []

        async def receive():
            if not said:
                return {"type": "lifespan.startup"}
            if meanwhile is not None:
                await meanwhile()
            return {"type": "lifespan.shutdown"}

        async def send(message):
            said.append(message)

        await self.app({"type": "lifespan"}, receive, send)
        return said
