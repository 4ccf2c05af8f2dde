"""`python -m tests.parity` writes docs/parity.md and docs/clients.md; its status is 1 where an item is not told of."""

from __future__ import annotations

import sys

from tests.parity.page import parity, texts
from tests.parity.surface import ROOT

for name, text in texts():
    (ROOT / "docs" / name).write_text(text)
for trouble in (troubles := parity().troubles()):
    print(trouble, file=sys.stderr)
sys.exit(bool(troubles))
