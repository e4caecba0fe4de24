"""Many nodes at once: none keeps another from being dealt with, and what is raised comes afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from adapters.edges.nodes import on_every, on_reachable
from domain.errors import RequestRefused, Unreachable


@dataclass
class Node:
    name: str
    failure: Exception | None = None
    done: bool = False

    async def act(self) -> str:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        await asyncio.sleep(0.01)
        self.done = True
        return self.name


def away(name: str) -> Node:
    return Node(name, Unreachable("nobody answers", where=name))


async def test_what_came_of_it_is_in_the_nodes_order() -> None:
    nodes = [Node("one"), Node("two")]
    assert await on_every(nodes, Node.act) == ("one", "two")
    assert await on_reachable(nodes, Node.act) == (("one", "two"), ())


async def test_an_unreachable_node_is_raised_after_the_others_or_named() -> None:
    nodes = [away("one"), Node("two"), away("three")]
    with pytest.raises(Unreachable, match="one"):
        await on_every(nodes, Node.act)
    assert nodes[1].done
    assert await on_reachable(nodes, Node.act) == (("two",), ("one", "three"))


async def test_what_else_a_node_says_comes_before_anybodys_silence() -> None:
    nodes = [away("one"), Node("two", RequestRefused("no")), Node("three")]
    for way in (on_every, on_reachable):
        with pytest.raises(RequestRefused):
            await way(nodes, Node.act)  # type: ignore[operator]
    assert nodes[2].done


async def test_nobody_reachable_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await on_reachable([away("one"), away("two")], Node.act)
