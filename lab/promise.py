"""Promise 1 of the design, checked all the time: no endpoint is ever without a certificate that works.

At every change of a pool, before anything else can happen, and every 0.2 s: what the listeners of each node of a
trunk choose from must hold a certificate that is inside its validity, whose chain is complete, whose key matches, and
which the carrier trusts at that moment. A node that is away serves nobody and is not looked at; one that came back
with an old pool is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from lab.certificate_check import UploadRefused, check_key, trust_problem, validity_problem
from lab.nodes import Node
from lab.trunk import RegisteredCertificate, Trunk
from lab.wire_time import now

_EVERY_S = 0.2
_KEPT = 200

Anchors = Callable[[], Sequence[x509.Certificate]]
"""What the carrier trusts now: roots, or with a partial chain any CA."""


@dataclass(frozen=True)
class Violation:
    """The moment at which an endpoint, or a node of it, was found without a working certificate, and why."""

    at: datetime
    endpoint: str
    reason: str


class PromiseCheck:
    """Watches trunks. A violation is recorded when it begins, and again when its reason changes."""

    def __init__(self, carrier_anchors: Anchors) -> None:
        self.violations: list[Violation] = []
        self.checks = 0
        self._anchors = carrier_anchors
        self._trunks: list[Trunk] = []
        self._broken: dict[str, str] = {}
        self._key_problems: dict[str, str | None] = {}

    def watch(self, trunk: Trunk) -> None:
        """Check this trunk now, at every change, and in `run`."""
        self._trunks.append(trunk)
        trunk.observe(self.check)
        self.check(trunk)

    def check(self, trunk: Trunk) -> None:
        """One look at one trunk, at every node that is up."""
        self.checks += 1
        for node in trunk.nodes:
            where = trunk.name if len(trunk.nodes) == 1 else node.name
            reason = self._broken_because(node) if node.up else None
            if reason is None:
                self._broken.pop(where, None)
            elif self._broken.get(where) != reason:
                self._broken[where] = reason
                if len(self.violations) < _KEPT:
                    self.violations.append(Violation(now(), where, reason))

    async def run(self) -> None:
        """Look at every trunk every 0.2 s, until cancelled."""
        while True:
            for trunk in self._trunks:
                self.check(trunk)
            await asyncio.sleep(_EVERY_S)

    def _broken_because(self, node: Node) -> str | None:
        moment, binding = now(), node.binding
        if binding is None:
            return "it has never taken a configuration"
        served = binding.served_on(moment)
        if node.edge.secondary_port is None:
            del served["secondary"]
        silent = [port for port, certificate in served.items() if certificate is None]
        if silent:
            return f"nothing to serve on the {' and the '.join(silent)} port"
        secondary = (binding.on_secondary,) if binding.on_secondary else ()
        reasons: list[str] = []
        for certificate in (*binding.on_primary, *secondary):
            problem = self._problem(certificate, moment)
            if problem is None:
                return None
            reasons.append(f"{certificate.sha256[:12]}: {problem}")
        return "; ".join(reasons)

    def _problem(self, certificate: RegisteredCertificate, moment: datetime) -> str | None:
        problem = validity_problem(certificate.chain.leaf, moment)
        if problem is None:
            problem = trust_problem(certificate.chain, self._anchors(), moment)
        return problem or self._key_problem(certificate)

    def _key_problem(self, certificate: RegisteredCertificate) -> str | None:
        """Looked at once for each certificate: neither side can change, and loading an RSA key takes 50 ms."""
        if certificate.id not in self._key_problems:
            problem: str | None = None
            try:
                check_key(certificate.chain, certificate.served.key_pem)
            except UploadRefused as refused:
                problem = refused.reason
            self._key_problems[certificate.id] = problem
        return self._key_problems[certificate.id]
