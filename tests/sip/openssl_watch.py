"""An independent witness: `openssl s_client` makes fresh, verified handshakes all the time."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PAUSE_S = 0.1
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Handshake:
    """One handshake; `at` is the monotonic time of its end. `leaf` is the SHA-256 that was served, if any was."""

    at: float
    node: tuple[str, int]
    leaf: str | None
    verified: bool
    said: str


class OpensslWatch:
    """Handshakes with every node in turn, about five a second each, from `start` until `stop`.

    Chain (against `root`) and name are verified by OpenSSL itself. `client` is certificate and key for mutual TLS.
    """

    def __init__(
        self, nodes: Sequence[tuple[str, int]], *, fqdn: str, root: Path, client: tuple[Path, Path] | None = None
    ) -> None:
        self.seen: list[Handshake] = []
        self._nodes, self._fqdn, self._root, self._client = tuple(nodes), fqdn, root, client
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns after the first handshake with every node."""
        for node in self._nodes:
            self.seen.append(await self.look(node))
        self._tasks = [asyncio.create_task(self._watch(node)) for node in self._nodes]

    async def stop(self) -> None:
        """Ends after the handshake that is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def failures(self) -> list[Handshake]:
        """Handshakes that OpenSSL did not verify."""
        return [one for one in self.seen if not one.verified]

    def leaves(self) -> set[str]:
        """Every leaf that was served."""
        return {one.leaf for one in self.seen if one.leaf is not None}

    def last_leaf(self, node: tuple[str, int]) -> str | None:
        """What the node served last."""
        return next(one.leaf for one in reversed(self.seen) if one.node == node)

    def longest_gap_s(self) -> float:
        """The longest time without a successful handshake, over all nodes the worst."""
        worst = 0.0
        for node in self._nodes:
            good = [one.at for one in self.seen if one.node == node and one.verified]
            ends = [*good, max(one.at for one in self.seen)]
            worst = max([worst, *(later - earlier for earlier, later in itertools.pairwise(ends))])
        return worst

    async def look(self, node: tuple[str, int]) -> Handshake:
        """One handshake with a node."""
        command = ["openssl", "s_client", "-connect", f"{node[0]}:{node[1]}", "-servername", self._fqdn]
        command += ["-CAfile", str(self._root), "-verify_return_error", "-verify_hostname", self._fqdn]
        if self._client is not None:
            command += ["-cert", str(self._client[0]), "-key", str(self._client[1])]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                said, _ = await process.communicate()
        except TimeoutError:
            said = b"timeout"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        pem = _PEM.search(said)
        leaf = _sha256(pem.group()) if pem else None
        verified = process.returncode == 0 and b"Verify return code: 0 (ok)" in said
        return Handshake(time.monotonic(), node, leaf, verified, "" if verified else said.decode(errors="replace"))

    async def _watch(self, node: tuple[str, int]) -> None:
        while True:
            self.seen.append(await self.look(node))
            await asyncio.sleep(_PAUSE_S)


def _sha256(pem: bytes) -> str:
    return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).hexdigest()
