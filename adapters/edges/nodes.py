"""The same on every node of an edge, at once: one that fails keeps no other from being read or written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from domain.errors import Unreachable


class Named(Protocol):
    """A node."""

    @property
    def name(self) -> str:
        """As the settings call it."""
        ...


N = TypeVar("N", bound=Named)
T = TypeVar("T")


async def on_reachable(nodes: Sequence[N], act: Callable[[N], Awaitable[T]]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """What came of it where somebody answered, and the names of the nodes where nobody did.

    All are settled before anything is raised: what a node raised other than `Unreachable`, or `Unreachable` when no
    node answered at all.
    """
    results, silent = await _settled(nodes, act)
    if silent and len(silent) == len(nodes):
        raise silent[0][1]
    return results, tuple(name for name, _ in silent)


async def on_every(nodes: Sequence[N], act: Callable[[N], Awaitable[T]]) -> tuple[T, ...]:
    """What came of it on every node; `Unreachable` comes up last, when the others have been dealt with."""
    results, silent = await _settled(nodes, act)
    if silent:
        raise silent[0][1]
    return results


async def _settled(
    nodes: Sequence[N], act: Callable[[N], Awaitable[T]]
) -> tuple[tuple[T, ...], list[tuple[str, Unreachable]]]:
    outcomes = await asyncio.gather(*(act(node) for node in nodes), return_exceptions=True)
    results: list[T] = []
    silent: list[tuple[str, Unreachable]] = []
    for node, outcome in zip(nodes, outcomes, strict=True):
        if isinstance(outcome, Unreachable):
            silent.append((node.name, outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results.append(outcome)
    return tuple(results), silent
