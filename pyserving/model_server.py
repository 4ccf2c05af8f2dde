"""ModelServer: builds the tree, starts it in order and stops it in reverse. The only file that knows everybody."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)
