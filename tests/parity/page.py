"""docs/parity.md and docs/clients.md, made of the marks that tests bear, and what keeps them from being made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.parity.marks import Mark, marks
from tests.parity.reasons import REASONS, Differs, NotApplicable, Reason, Same, reason_for
from tests.parity.surface import surface


@dataclass(frozen=True, slots=True)
class Parity:
    """What is known of each item of the surface."""

    sections: Mapping[str, Sequence[str]]
    proofs: Mapping[str, Sequence[Mark]]
    """By item, those of its tests."""

    def troubles(self) -> list[str]:
        """A line for each item that is neither proved nor explained, and for each mark and reason that is none."""
        items = [item for section in self.sections.values() for item in section]
        return [
            *(
                f"{item}: neither a test proves it nor does a reason excuse it"
                for item in items
                if not self._is_told(item)
            ),
            *(
                f"{item}: no test gives it to a real process"
                for item in items
                if item.startswith("flag ")
                if not any(mark.gives(item.removeprefix("flag ")) for mark in self.proofs.get(item, ()))
            ),
            *(
                f"{mark.path}::{mark.test} proves {item!r}, which there is not"
                for item, found in self.proofs.items()
                for mark in found
                if item not in items
            ),
            *(
                f"{pattern}: differs as {reason.case!r}, which docs/differences.md does not have"
                for pattern, reason in REASONS.items()
                if isinstance(reason, Differs) and f"difference: {reason.case}" not in items
            ),
        ]

    def _is_told(self, item: str) -> bool:
        return item in self.proofs or isinstance(reason_for(item), NotApplicable)

    def markdown(self) -> str:
        """The text of docs/parity.md."""
        return _PARITY + "\n".join(_section(name, items, self.proofs) for name, items in self.sections.items())


def parity() -> Parity:
    proofs: dict[str, list[Mark]] = {}
    for mark in marks("proves"):
        for item in mark.arguments:
            proofs.setdefault(item, []).append(mark)
    return Parity(surface(), proofs)


def clients() -> str:
    """The text of docs/clients.md."""
    rows = (
        [mark.arguments[0], mark.keywords["request"], mark.keywords["answer"], mark.link] for mark in marks("client")
    )
    return _CLIENTS + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _section(name: str, items: Iterable[str], proofs: Mapping[str, Sequence[Mark]]) -> str:
    rows = (f"| {_shown(item)} | {_verdict(reason_for(item))} | {_links(proofs.get(item, ()))} |\n" for item in items)
    return f"## {name}\n\n| | | shown by |\n|---|---|---|\n{''.join(rows)}"


def _shown(item: str) -> str:
    kind, _, name = item.partition(" ")
    if kind == "flag":
        return f"`--{name}`"
    return name if kind == "difference:" else f"`{name}`"


def _verdict(reason: Reason | None) -> str:
    match reason:
        case Differs(case):
            return f"differs: [{case}](differences.md)"
        case NotApplicable(why):
            return f"not applicable: {why}"
        case Same(how):
            return f"pass: {how}"
        case None:
            return "pass"


def _links(found: Iterable[Mark]) -> str:
    return "<br>".join(mark.link for mark in found)


def texts() -> Iterator[tuple[str, str]]:
    """The files in `docs` that this module writes, by name."""
    yield "parity.md", parity().markdown()
    yield "clients.md", clients()


_PARITY = """\
# Parity with TensorFlow Serving

<!-- Written by `python -m tests.parity`, of the marks that tests bear. -->

Each RPC, field, flag and metric of TensorFlow Serving, and each of [our differences](differences.md), with the tests
that show what becomes of it. *pass*: as there, or, for a difference, as it is told; *differs*: on purpose, in the way
that is linked to; *not applicable*: for the reason given. An item that has neither a test nor a reason fails the build.
Each flag is given to a real process in its test; [flags.md](flags.md) tells what it means. [clients.md](clients.md)
holds the requests of public clients.

"""

_CLIENTS = """\
# Public clients

<!-- Written by `python -m tests.parity`, of the marks that tests bear. -->

What public clients of TensorFlow Serving send, and what they read in the answer. Each is restated in a test as its
source has it, through the unmodified stubs of `tensorflow-serving-api`, the standard library or curl, against a real
server; those of gRPC over both transports.

| client | request | answer | shown by |
|---|---|---|---|
"""
