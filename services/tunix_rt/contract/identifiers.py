"""Ids, names, tags, pools and messages: what they look like and how long they are."""

from __future__ import annotations

import re
from typing import Final

MAX_ID: Final = 200
# Of names that people and machines give freely: display names, workers, units and stages of progress.
MAX_DISPLAY_NAME: Final = 200
# Characters of an error message, a log line or what a person gives as a reason.
MAX_MESSAGE: Final = 20_000
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TAG_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
MAX_TAGS: Final = 64
MAX_TAG_VALUE: Final = 256
# Names of hardware pools.
POOL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DEFAULT_POOL: Final = "cpu"
