"""Why an endpoint fails: asks and probes everything once, side by side, and puts what came in time into words.

Only for a verdict that stands already. Nothing waits beyond its budget: what fails or is late is left out of the
symptoms (`domain.diagnosis`), and no words are made then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from activities.clocks import measure_clocks
from adapters.probe.base import Layer, ProbeResult, ProbeTarget
from adapters.registry import Adapters
from domain.certificate_facts import facts
from domain.clocks import Clocks
from domain.diagnosis import Diagnosis, Sure, diagnose, told
from domain.handshakes import Reading
from domain.plan import Endpoint, Plan
from domain.probed import Probed
from domain.symptoms import Symptoms, failures_of
from domain.texts import LONGEST, SHOWN, readable

DIAGNOSIS_S: Final = 1.0
"""Seconds for the whole diagnosis of one look."""

OF_A_BREACH_S: Final = 0.5
"""Seconds for that of a breach, while calls are lost: what is not known by then is found out afterwards."""

ALL_IN_S: Final = 3.5
"""Seconds for the look and its diagnosis together, below the look's start-to-close."""

_CLEAN_UP_S: Final = 0.1
_SHARE: Final = 0.9
"""Of what is left, so that a clock that does not answer takes nothing from those that do."""
_REVOCATION = frozenset({"certificate_revoked", "bad_certificate_status_response"})
_CLOCKS = frozenset({"bad_certificate", "certificate_expired"})
"""Alerts behind which a clock may be: "not yet valid" is sent as the first of them (RFC 8446 section 6.2)."""


@dataclass(frozen=True)
class Suspect:
    """An endpoint that failed between `since` and now, with the rotation's certificates (leaf SHA-256)."""

    plan: Plan
    endpoint: Endpoint
    sha256_a: str
    sha256_b: str
    since: datetime


class Diagnosing:
    """Looks for causes."""

    def __init__(self, adapters: Adapters, clock: Callable[[], datetime]) -> None:
        self._adapters, self._clock = adapters, clock

    async def added_to(self, texts: Mapping[str, str], suspects: Iterable[Suspect], budget_s: float) -> dict[str, str]:
        """The texts, by endpoint, with cause and next step where there is something to say. Never raises."""
        suspected = [one for one in suspects if one.endpoint.name in texts]
        words = await asyncio.gather(*(self.words(one, budget_s) for one in suspected))
        return {
            one.endpoint.name: _joined(texts[one.endpoint.name], said)
            for one, said in zip(suspected, words, strict=True)
            if said is not None
        }

    async def words(self, suspect: Suspect, budget_s: float = DIAGNOSIS_S) -> str | None:
        """Cause and next step; None when nothing can be said. Never raises."""
        if budget_s <= 0:
            return None
        with contextlib.suppress(Exception):
            diagnoses = await self.diagnoses(suspect, budget_s)
            if diagnoses:
                return told(diagnoses)
        return None

    async def diagnoses(self, suspect: Suspect, budget_s: float = DIAGNOSIS_S) -> tuple[Diagnosis, ...]:
        """The ranked causes; none when no failure could be read and nothing was seen."""
        symptoms = await self.symptoms(suspect, budget_s)
        found = diagnose(symptoms)
        nothing = found[0].sure is Sure.NOT_KNOWN and not symptoms.failures
        return () if nothing else found

    async def symptoms(self, suspect: Suspect, budget_s: float = DIAGNOSIS_S) -> Symptoms:
        """Everything that could be learnt in `budget_s` seconds."""
        endpoint, now = suspect.endpoint, self._clock()
        first, *others = endpoint.nodes[:SHOWN]
        asked: dict[str, Awaitable[Any]] = {
            "platform": self._platform(endpoint, suspect.since, now),
            "carrier": self._carrier(endpoint, suspect.since, now),
            "canary": self._canary(suspect),
            "reasons": self._reasons(suspect),
            "unresolved": self._unresolved(endpoint),
            "node": self._probe(_target(endpoint, first.address, first.port, call=True)),
            **{f"node {n}": self._probe(_target(endpoint, o.address, o.port)) for n, o in enumerate(others)},
        }
        started = asyncio.get_running_loop().time()
        came = await _in_time(asked, budget_s)
        readings = [came[name] for name in ("platform", "carrier") if name in came]
        results: list[ProbeResult] = [one for name, one in came.items() if name.startswith(("node", "canary")) and one]
        failures = failures_of(readings)
        b = next((r.leaf_pem for r in results if r.leaf_sha256 == suspect.sha256_b and r.leaf_pem), None)
        causes, further = {failure.cause for failure in failures}, dict[str, Awaitable[Any]]()
        left = budget_s - (asyncio.get_running_loop().time() - started)
        if b is not None and causes & _REVOCATION:
            further["pki"] = self._revoked(suspect.plan, b)
        if causes & _CLOCKS:
            further["clocks"] = measure_clocks(self._adapters, (endpoint,), self._clock, max(left, 0) * _SHARE)
        came |= await _in_time(further, left)
        clocks: Clocks | None = came.get("clocks")
        return Symptoms(
            now=now,
            failures=failures,
            probes=tuple(probed(result) for result in results),
            facts=facts(b) if b is not None else None,
            sha256_a=suspect.sha256_a,
            sha256_b=suspect.sha256_b,
            platform_reasons=came.get("reasons", ()),
            drift=self._carriers_drift(came.get("carrier")),
            clocks=clocks.off() if clocks is not None else (),
            unresolved=came.get("unresolved", ()),
            pki_revoked=came.get("pki"),
        )

    # -- what is asked ---------------------------------------------------------------------------------------------

    async def _platform(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        return await self._adapters.metrics(endpoint.platform).samples(endpoint, since, until)

    async def _carrier(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        return await self._adapters.carrier(endpoint.carrier).reading(endpoint, since, until)

    async def _probe(self, target: ProbeTarget) -> ProbeResult:
        return await self._adapters.prober().probe(target)

    async def _canary(self, suspect: Suspect) -> ProbeResult | None:
        """B on its canary path, as long as there is one."""
        endpoint = suspect.endpoint
        state = await self._adapters.edge(endpoint.platform).read_trunk(endpoint.trunk, reachable_only=True)
        path = state.canary_path
        if state.canary != suspect.sha256_b or path is None:
            return None
        node = endpoint.nodes[0]
        target = _target(endpoint, node.address, path.port or node.port, call=True)
        return await self._probe(target.model_copy(update={"server_name": path.server_name or endpoint.fqdn}))

    async def _reasons(self, suspect: Suspect) -> tuple[str, ...]:
        health = await self._adapters.edge(suspect.endpoint.platform).health(suspect.endpoint.trunk)
        return tuple(
            one.reason for one in health.certificates if one.sha256 == suspect.sha256_b and not one.valid and one.reason
        )

    async def _unresolved(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Targets of the trunk's SRV record that have no address, by their authoritative server."""
        srv = endpoint.srv
        if srv is None:
            return ()
        zone, targets = self._adapters.zone(srv.dns), (srv.target_a, srv.target_b)
        addresses = await asyncio.gather(*(zone.addresses(target) for target in targets))
        return tuple(target for target, found in zip(targets, addresses, strict=True) if not found)

    async def _revoked(self, plan: Plan, leaf_pem: str) -> bool:
        status = await self._adapters.authority(plan.certificate.ca).status(leaf_pem)
        return bool(status.ocsp_revoked or status.crl_revoked)

    def _carriers_drift(self, carrier: Reading | None) -> timedelta | None:
        """By the time that the carrier's answer bears, which is its clock's; figures are at most seconds old."""
        return None if carrier is None else carrier.read_at - self._clock()


def probed(result: ProbeResult) -> Probed:
    """A probe as the diagnosis takes it."""
    return Probed(
        where=f"{result.target.address}:{result.target.port}",
        leaf_sha256=result.leaf_sha256,
        layer=None if result.failed_layer is None else Layer(result.failed_layer),
        words=result.cause or "",
        alert=result.alert,
        distrust=result.distrust,
        sip_status=result.call_status or result.options_status,
        version=result.version,
        cipher=result.cipher,
        staple=result.staple,
        resumption=result.resumption,
    )


def _target(endpoint: Endpoint, address: str, port: int, *, call: bool = False) -> ProbeTarget:
    return ProbeTarget(
        address=address,
        port=port,
        server_name=endpoint.fqdn,
        identity=endpoint.fqdn,
        test_call=endpoint.test_call if call else None,
    )


async def _in_time(asked: Mapping[str, Awaitable[Any]], budget_s: float) -> dict[str, Any]:
    """What came without failing within the budget; the rest is cancelled and dropped."""
    if not asked:
        return {}
    tasks = {name: asyncio.ensure_future(one) for name, one in asked.items()}
    try:
        await asyncio.wait(tasks.values(), timeout=max(budget_s, 0))
        return {
            name: task.result()
            for name, task in tasks.items()
            if task.done() and not task.cancelled() and task.exception() is None
        }
    finally:
        await _end(tasks.values())


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    left: Sequence[asyncio.Future[Any]] = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    if left:
        await asyncio.wait(left, timeout=_CLEAN_UP_S)


def _joined(text: str, said: str) -> str:
    return f"{readable(text, LONGEST - len(said) - 2)}; {said}"
