"""sip-pool.cfg: which certificate new connections get after a restart. Pure: text in, text out.

The rotator changes its first line, and `weight` and `disabled` of servers; all else stays byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from domain.errors import UnexpectedAnswer

POOL: Final = "pool"
CANARY: Final = "canary-pool"
OUTBOUND: Final = "out-pool"
"""The pools of a listener, as `<listener>-<pool>`."""

NO_CANARY: Final = "none"

Weights = Mapping[str, int | None]
"""Slot → weight in a pool; None: not in it."""

_HEADER: Final = re.compile(r"(?m)^# rotation: version (\d+) first (\S+) canary (\S+)[ \t]*(?=\r?$)")
_SECTION: Final = re.compile(
    r"\s*(?:global|defaults|frontend|backend|listen|peers|resolvers|mailers|userlist|program|ring|cache|http-errors"
    r"|fcgi-app|crt-store)\b(?:\s+(\S+))?"
)
_SERVER: Final = re.compile(r"\s*server\s+(\S+)\s")
_COMMENT: Final = re.compile(r"""^((?:[^"'#\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')*?)(\s*#.*)?$""")
_WEIGHT: Final = re.compile(r"\s+weight\s+(\d+)(?=\s|$)")
_DISABLED: Final = re.compile(r"\s+disabled(?=\s|$)")
_ENABLED: Final = re.compile(r"\s+enabled(?=\s|$)")


@dataclass(frozen=True)
class Arrangement:
    """What stands in the file: `first` decides between equal weights; `canary` is the slot that its path leads to."""

    version: int
    first: str
    canary: str | None
    pools: Mapping[str, Weights]


def arrangement(text: str, listener: str, where: str) -> Arrangement:
    """The file's contents. Raises `UnexpectedAnswer` when its first line or the pool is missing."""
    header = _HEADER.search(text)
    if header is None:
        raise _strange(where, "no line '# rotation: version … first … canary …'")
    pools: dict[str, dict[str, int | None]] = {}
    for line, pool in _lines(text, listener):
        server = _SERVER.match(line)
        if pool is not None and server is not None:
            pools.setdefault(pool, {})[server[1]] = _weight(line)
    if POOL not in pools:
        raise _strange(where, f"no server in a section 'backend {listener}-{POOL}'")
    return Arrangement(
        version=int(header[1]), first=header[2], canary=None if header[3] == NO_CANARY else header[3], pools=pools
    )


def rewritten(text: str, listener: str, wanted: Arrangement) -> str:
    """The file with that arrangement, everything else as it is. Pools that it does not have are left out."""
    header = f"# rotation: version {wanted.version} first {wanted.first} canary {wanted.canary or NO_CANARY}"
    changed = []
    for line, pool in _lines(text, listener):
        server = _SERVER.match(line)
        weights = None if pool is None else wanted.pools.get(pool)
        if server is None or weights is None or server[1] not in weights:
            changed.append(line)
        else:
            changed.append(line if _weight(line) == weights[server[1]] else _weighted(line, weights[server[1]]))
    return _HEADER.sub(header, "".join(changed), count=1)


def _lines(text: str, listener: str) -> Iterator[tuple[str, str | None]]:
    """Each line with its end, and the pool in whose section it stands."""
    pool = None
    for line in text.splitlines(keepends=True):
        section = _SECTION.match(line)
        if section is not None:
            name = section[1] or ""
            pool = name.removeprefix(f"{listener}-") if name.startswith(f"{listener}-") else None
            pool = pool if pool in (POOL, CANARY, OUTBOUND) else None
        yield line, pool


def _code(line: str) -> tuple[str, str]:
    """The line up to its comment, and the rest with the line's end."""
    body = line.rstrip("\r\n")
    match = _COMMENT.match(body)
    code = body if match is None else match[1]
    return code.rstrip(), line[len(code.rstrip()) :]


def _weight(line: str) -> int | None:
    code, _ = _code(line)
    if _DISABLED.search(code):
        return None
    weight = _WEIGHT.search(code)
    return 1 if weight is None else int(weight[1])


def _weighted(line: str, weight: int | None) -> str:
    code, rest = _code(line)
    for pattern in (_WEIGHT, _DISABLED, _ENABLED):
        code = pattern.sub("", code)
    return f"{code} weight {weight or 0}{' disabled' if weight is None else ''}{rest}"


def _strange(where: str, seen: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        "the file of the pools does not have its form",
        where=where,
        seen=seen,
        action="compare it with deploy/haproxy/sip-pool.cfg",
    )
