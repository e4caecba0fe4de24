"""What a listener serves right now: the leaf of a fresh handshake, so that nobody has to believe a counter."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

from domain.handshakes import Record
from domain.plan import Endpoint, Node

WITHIN_S = 5.0


class Served(Record):
    """The leaf's SHA-256 that one node presented, or why there was none."""

    endpoint: str
    address: str
    sha256: str | None = None
    problem: str | None = None


async def served_everywhere(endpoints: tuple[Endpoint, ...]) -> list[Served]:
    """One fresh handshake with every node of every endpoint. It judges nothing: any certificate is looked at."""
    return list(await asyncio.gather(*(_served(endpoint, node) for endpoint in endpoints for node in endpoint.nodes)))


async def _served(endpoint: Endpoint, node: Node) -> Served:
    address = f"{node.address}:{node.port}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(WITHIN_S):
            _, writer = await asyncio.open_connection(
                node.address, node.port, ssl=context, server_hostname=endpoint.fqdn
            )
            leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
    except (OSError, TimeoutError) as error:
        return Served(endpoint=endpoint.name, address=address, problem=str(error) or type(error).__name__)
    return Served(endpoint=endpoint.name, address=address, sha256=hashlib.sha256(leaf).hexdigest())
