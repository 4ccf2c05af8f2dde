"""`--auth_tokens_file`: the tokens that let requests in, and following them while the server runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from pyserving.config import read_file
from pyserving.errors import InvalidArgument
from pyserving.followed_file import LOOK_SECONDS, FollowedFile
from pyserving.transports.tokens import Token, TokenCheck, digest_of
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_LINE = re.compile(r"(?:(?P<name>[\w.@-]+)\s*:\s*)?(?P<token>[A-Za-z0-9\-._~+/]+=*)")
"""A token has the characters of RFC 6750's, of which a colon is none."""


def read_tokens(path: str) -> tuple[Token, ...]:
    """One in each line, `TOKEN` or `NAME: TOKEN`; empty lines, and those that begin with `#`, say nothing.

    NOT_FOUND and PERMISSION_DENIED name the file, INVALID_ARGUMENT the line, never what is in it.
    """
    try:
        lines = read_file(path).decode().splitlines()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} is not text in UTF-8") from None
    tokens = [
        _token(line.strip(), f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not tokens:
        raise InvalidArgument(f"{path} holds no token, so that no request would be let in")
    return tuple(tokens)


def _token(line: str, place: str) -> Token:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidArgument(
            f"{place}: neither TOKEN nor NAME: TOKEN, where a token is of A-Z a-z 0-9 - . _ ~ + / and ="
        )
    return Token(digest_of(match["token"]), match["name"] or "")


def in_words(tokens: Sequence[Token]) -> str:
    """Their names, for the log."""
    names = sorted({token.name for token in tokens if token.name})
    if nameless := sum(not token.name for token in tokens):
        names.append(f"{nameless} without a name")
    return ", ".join(names)


class AuthTokensFile(FollowedFile[tuple[Token, ...]]):
    """Has new tokens let in the requests to come, and no others."""

    def __init__(
        self,
        path: str,
        check: TokenCheck,
        reading: Workers,
        on_change: Callable[[bool], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`check` has the tokens of the file. `on_change` is told whether a change could be used, and by then is."""

        async def renew(tokens: tuple[Token, ...]) -> None:
            check.tokens = tokens

        def tell(problem: str) -> None:
            if problem:
                _log.error("The tokens stay as they were: %s", problem)
            else:
                _log.info("Tokens of %s count now: %s", path, in_words(check.tokens))
            on_change(not problem)

        super().__init__(
            path,
            check.tokens,
            read=read_tokens,
            take=renew,
            tell=tell,
            reading=reading,
            look_seconds=look_seconds,
        )
