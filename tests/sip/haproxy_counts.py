"""What a node exports for Prometheus, read directly."""

from __future__ import annotations

import re

import httpx

from tests.lab.waiting import until
from tests.sip.haproxy_node import HaproxyNode

Counted = dict[tuple[str, str], tuple[int, int]]
"""(certificate or slot, peer) → (good, failed)."""


async def exported(node: HaproxyNode) -> str:
    """The text that Prometheus scrapes."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"http://{node.metrics_target}/metrics")).raise_for_status().text


async def counted(node: HaproxyNode, direction: str = "inbound") -> Counted:
    """What the node itself says, by slot and peer; what is zero is left out."""
    found: dict[tuple[str, str], list[int]] = {}
    pattern = rf'certificate="(\w+)",direction="{direction}",peer="([^"]*)",result="(ok|failed)"}} (\d+)'
    for slot, peer, result, count in re.findall(pattern, await exported(node)):
        found.setdefault((slot, peer), [0, 0])[result == "failed"] += int(count)
    return {key: (good, failed) for key, (good, failed) in found.items() if good or failed}


async def reaches(node: HaproxyNode, wanted: Counted, direction: str = "inbound") -> None:
    """Waits until the node counts this; a failure counts when its connection has ended."""
    seen: list[Counted] = []

    async def as_wanted() -> bool:
        seen.append(await counted(node, direction))
        return seen[-1] == wanted

    try:
        await until(as_wanted, 10)
    except TimeoutError:
        assert seen[-1] == wanted
