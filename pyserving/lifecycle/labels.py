"""Version labels: what the config wishes, and what requests may use by now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

LabelMap = Mapping[str, Mapping[str, int]]
"""Model name to label to version."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


class VersionLabels:
    """A label answers with its version once that version is AVAILABLE; until then a moved label keeps the old one.

    With `allow_unavailable` a label that is new answers at once, as
    `--allow_version_labels_for_unavailable_models` has it.
    """

    def __init__(self, available: Callable[[str], Collection[int]], *, allow_unavailable: bool = False) -> None:
        self._available = available
        self._allow_unavailable = allow_unavailable
        self._wished: LabelMap | None = None
        self._applied: LabelMap = {}

    @property
    def is_initialised(self) -> bool:
        """Whether a config has ever been applied."""
        return self._wished is not None

    def wish(self, labels: LabelMap) -> None:
        """Replace the whole table; labels that are not in it vanish at once."""
        self._wished = labels
        self.apply()

    def apply(self) -> None:
        """Take over what has become possible. Called when the serving map was swapped."""
        if self._wished is not None:
            self._applied = {name: self._possible(name, labels) for name, labels in self._wished.items()}

    def of(self, name: str) -> Mapping[str, int]:
        """Label to version, of a model."""
        return self._applied.get(name, _NOTHING)

    def version(self, name: str, label: str) -> int | None:
        """The version a request with this label gets; None when there is no such label."""
        return self.of(name).get(label)

    def waiting(self) -> list[tuple[str, str, int]]:
        """Model, label and version of every label whose version is not there, or that may not name it yet."""
        return [
            (name, label, version)
            for name, labels in (self._wished or {}).items()
            for label, version in labels.items()
            if self.version(name, label) != version or not (self._allow_unavailable or version in self._available(name))
        ]

    def _possible(self, name: str, wished: Mapping[str, int]) -> Mapping[str, int]:
        if not wished:
            return _NOTHING
        available = self._available(name)
        before = self._applied.get(name, _NOTHING)
        possible = {}
        for label, version in wished.items():
            if version in available or (self._allow_unavailable and label not in before):
                possible[label] = version
            elif label in before:
                possible[label] = before[label]
        return possible
