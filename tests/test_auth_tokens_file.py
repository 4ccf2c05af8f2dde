from __future__ import annotations

import logging

import pytest

from pyserving.auth_tokens_file import AuthTokensFile, in_words, read_tokens
from pyserving.errors import InvalidArgument, NotFound
from pyserving.transports.tokens import Token, TokenCheck, digest_of
from pyserving.workers import Workers


class TokensFile:
    def __init__(self, path):
        self._path = path
        self.path = str(path)

    def write(self, content):
        self._path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.path

    def remove(self):
        self._path.unlink()


@pytest.fixture
def file(tmp_path):
    return TokensFile(tmp_path / "tokens")


def test_each_line_holds_a_token_and_perhaps_its_name(file):
    tokens = read_tokens(file.write("# of the team\nabc-123._~+/==\n\n  ci: s3cret \n\t# old\nalice@x:t\r\n"))
    assert tokens == (
        Token(digest_of("abc-123._~+/==")),
        Token(digest_of("s3cret"), "ci"),
        Token(digest_of("t"), "alice@x"),
    )


def test_several_tokens_may_have_one_name(file):
    tokens = read_tokens(file.write("ci: old\nci: new\nx\ny\n"))
    assert in_words(tokens) == "ci, 2 without a name"


@pytest.mark.parametrize(
    "line", ["two words", "ci: two words", "a:b:c", "ci:", "späße", "x=y", "token # of ci", '"quoted"', "a\x00b"]
)
def test_a_line_that_holds_none_is_named_by_its_number_alone(file, line):
    with pytest.raises(InvalidArgument) as refusal:
        read_tokens(file.write(f"# tokens\n{line}\n"))
    assert refusal.value.message.startswith(f"{file.path}, line 2: neither TOKEN nor NAME: TOKEN")
    assert line not in refusal.value.message


@pytest.mark.parametrize("content", ["# none yet\n\n", "\n"])
def test_a_file_without_a_token_is_refused(file, content):
    with pytest.raises(InvalidArgument, match="holds no token"):
        read_tokens(file.write(content))


def test_what_is_no_text_is_refused(file):
    with pytest.raises(InvalidArgument, match="is not text in UTF-8"):
        read_tokens(file.write(b"\xff\xfe"))


def test_a_file_that_is_missing_is_named():
    with pytest.raises(NotFound, match="/no/such/tokens; No such file or directory"):
        read_tokens("/no/such/tokens")


class Followed:
    """A file that is looked at when the test says so."""

    def __init__(self, path, reading):
        self.check = TokenCheck(read_tokens(path))
        self.changes = []
        self.file = AuthTokensFile(path, self.check, reading, self.changes.append, look_seconds=3600)
        self.look = self.file.look


@pytest.fixture
async def followed(file):
    async with Workers("auth-tokens", 1) as reading:
        followed = Followed(file.write("ci: old"), reading)
        async with followed.file:
            yield followed


async def test_a_change_holds_once_two_looks_have_seen_it(followed, file, caplog):
    caplog.set_level(logging.INFO)
    file.write("ci: new\nother")
    await followed.look()
    assert followed.check.tokens == (Token(digest_of("old"), "ci"),)
    await followed.look()
    assert followed.check.tokens == (Token(digest_of("new"), "ci"), Token(digest_of("other")))
    assert followed.changes == [True]
    assert caplog.messages == [f"Tokens of {file.path} count now: ci, 1 without a name"]


@pytest.mark.parametrize(("content", "why"), [("a b", "line 1"), ("", "Invalid argument"), ("#", "holds no token")])
async def test_a_bad_change_is_told_once_and_changes_nothing(followed, file, caplog, content, why):
    file.write(content)
    for _ in range(4):
        await followed.look()
    assert followed.check.tokens == (Token(digest_of("old"), "ci"),)
    assert followed.changes == [False]
    (line,) = caplog.messages
    assert line.startswith("The tokens stay as they were: ")
    assert why in line


async def test_a_file_that_goes_away_takes_no_token_along(followed, file):
    file.remove()
    for _ in range(3):
        await followed.look()
    assert (len(followed.check.tokens), followed.changes) == (1, [False])
