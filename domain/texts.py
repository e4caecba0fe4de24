"""Texts that come from outside, or that are made from lists: one readable piece of a stated length.

What a platform answers, what an exception says and how many peers a plan names is not in our hands; what enters
histories, the status and the evidence is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import AfterValidator

LONGEST: Final = 1000
"""Characters of one text in a verdict, a side effect or an alert."""

SHOWN: Final = 8
"""Members of a list that a text names; the rest is a number."""

_PRIVATE_KEY = re.compile(
    r"-----\s*BEGIN[A-Z0-9 ]*PRIVATE KEY.*?(?:-----\s*END[A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL | re.IGNORECASE
)


def readable(text: str, limit: int = LONGEST) -> str:
    """At most `limit` characters without a private key; nothing behind a multiple of the limit is looked at."""
    seen = text[: 20 * limit]
    clean = _PRIVATE_KEY.sub("[private key removed]", seen)
    if len(clean) <= limit and len(seen) == len(text):
        return clean
    mark = f"… [cut from {len(text)} characters]"
    return clean[: max(limit - len(mark), 0)] + mark


def listed(items: Iterable[str], shown: int = SHOWN) -> str:
    """`a, b and 19998 more`: the first members by name, the rest as a number."""
    names = list(items)
    text = ", ".join(names[:shown])
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"


Readable = Annotated[str, AfterValidator(readable)]
"""A field of a record that never grows beyond `LONGEST` characters and never holds a private key, whoever filled it."""
