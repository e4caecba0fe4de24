"""PREFLIGHT: looks at everything a rotation needs and changes nothing. Every check names what it looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

from temporalio import activity

from activities.baseline import EndpointBaseline, EndpointExamined
from activities.capabilities import capability_findings
from activities.clocks import beside, measure_clocks
from activities.observing import Observing
from activities.readings import Readings
from adapters.dns.base import SrvSet
from adapters.edges.base import Edge, TrunkState
from adapters.pki.base import BackDating
from adapters.probe.base import ProbeResult, ProbeTarget
from adapters.registry import Adapters
from domain.certificates import CertificateFacts, facts
from domain.errors import RotatorError
from domain.gates import Finding, Verdict, by_carrier, not_checked, stale_or_damaged, usual_setups
from domain.handshakes import Record, Reporter, Tally, call_setups, handshakes
from domain.observed import TRUSTED
from domain.plan import Endpoint, Plan, limits_undercut
from domain.rotation import Run, short

TRIES = 3
"""How often a look that failed for a passing reason is repeated before PREFLIGHT reports it."""

MINIMUM_BACK_DATING = timedelta(hours=24)
"""Guide section 1: notBefore lies 24 hours before the rotation."""


class EndpointLook(Record):
    """One endpoint to examine.

    When an earlier run is gone on with: its A (PEM), its B (leaf SHA-256) and what it had recorded of the endpoints.
    """

    run: Run
    endpoint: str
    adopted_a: str | None = None
    adopted_b: str | None = None
    baselines: tuple[EndpointBaseline, ...] = ()


class WorkerExamined(Record):
    """What the worker's own side says: limits, PKI, custody, notifications.

    `physical` maps endpoints to the trunk's identity apart from the profile's name: what leases are taken on.
    """

    findings: tuple[Finding, ...]
    physical: Mapping[str, str] = {}


class PreflightActivities:
    """Looks, never touches. A look that fails is a finding, so that all problems are reported at once."""

    def __init__(self, adapters: Adapters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._adapters = adapters
        self._clock = clock
        self._readings = Readings(adapters, clock)

    @activity.defn
    async def examine_worker(self, run: Run) -> WorkerExamined:
        """The plan against this worker's profiles; the PKI and custody that it names; who is told; its own clock."""
        plan = run.plan
        physical: dict[str, str] = {}
        async with beside(measure_clocks(self._adapters, clock=self._clock)) as clocks:
            findings = [
                *await self._look("lab limits", None, lambda: self._limits(plan)),
                *await self._look("PKI", None, lambda: self._pki(plan)),
                *await self._look("key custody", None, lambda: self._custody(plan)),
                *await self._look("notifications", None, lambda: self._notifications(plan)),
            ]
            for endpoint in plan.endpoints:
                findings += await self._look("trunk id", endpoint, partial(self._identity, endpoint, physical))
            findings += (await clocks).findings()
        later = "not part of this version"
        findings += [
            not_checked("carrier cipher suites", later),
            not_checked("trust stores", later),
        ]
        return WorkerExamined(findings=tuple(findings), physical=physical)

    @activity.defn
    async def examine_endpoint(self, look: EndpointLook) -> EndpointExamined:
        """Access, the trunk's settings, A as every node serves it, other users of A, SRV, the carrier, clocks."""
        plan = look.run.plan
        endpoint = plan.endpoint(look.endpoint)
        state = _Examined(look)
        async with beside(measure_clocks(self._adapters, [endpoint], self._clock)) as clocks:
            findings = await self._examined(plan, endpoint, state)
            findings += (await clocks).findings(worker=False)
        baseline = state.baseline(endpoint)
        return EndpointExamined(
            findings=tuple(findings), a=state.a, a_pem=state.a_pem, baseline=baseline if state.a else None
        )

    async def _examined(self, plan: Plan, endpoint: Endpoint, state: _Examined) -> list[Finding]:
        findings = await self._look("platform", endpoint, lambda: self._platform(plan, endpoint, state))
        if state.edge is not None:
            findings += await self._look("listener", endpoint, lambda: self._nodes(plan, endpoint, state))
            findings += await self._look("other users of A", endpoint, lambda: self._other_users(plan, endpoint, state))
        if endpoint.srv is not None:
            findings += await self._look("DNS SRV", endpoint, lambda: self._srv(endpoint, state))
        findings += await self._look("carrier health", endpoint, lambda: self._carrier(endpoint))
        findings += await self._usual_setups(plan, endpoint, state)
        if endpoint.metrics is not None:
            findings += await self._look("second source", endpoint, lambda: self._second_source(plan, endpoint))
        if endpoint.observer is not None:
            observing = Observing(self._adapters, endpoint, self._clock)
            findings += await self._look("observer", endpoint, observing.begin)
            findings += await self._look(TRUSTED, endpoint, lambda: observing.trust(plan.certificate.ca))
        return findings

    # -- the looks -----------------------------------------------------------------------------------------------

    async def _look(
        self, check: str, endpoint: Endpoint | None, look: Callable[[], Awaitable[list[Finding]]]
    ) -> list[Finding]:
        where = endpoint.name if endpoint else None
        try:
            return await look()
        except RotatorError as error:
            if error.retryable and activity.info().attempt < TRIES:
                raise
            return [Finding(check=check, verdict=Verdict.ERROR, seen=str(error), expected="an answer", endpoint=where)]

    async def _identity(self, endpoint: Endpoint, physical: dict[str, str]) -> list[Finding]:
        """Two names for one trunk in one plan are found by the lease, which nobody takes twice."""
        physical[endpoint.name] = self._adapters.edge(endpoint.platform).physical_trunk(endpoint.trunk)
        return []

    async def _limits(self, plan: Plan) -> list[Finding]:
        outside = [e.name for e in plan.endpoints if not self._adapters.is_lab("platforms", e.platform)]
        undercut = limits_undercut(plan)
        if not undercut:
            return [_passed("limits", "overlap, soak, hold, samples and thresholds keep the guide's minimum")]
        if not outside:
            return [_passed("limits", f"undercut in a lab: {'; '.join(undercut)}", "profiles marked lab = true")]
        return [
            Finding(
                check="limits",
                verdict=Verdict.FAIL,
                seen="; ".join(undercut),
                expected=f"the guide's minimum, because {', '.join(outside)} is not marked lab = true",
            )
        ]

    async def _pki(self, plan: Plan) -> list[Finding]:
        profile = plan.certificate.ca
        ca = self._adapters.authority(profile)
        findings = [_missing("PKI access", profile, await ca.check_access())]
        back_dated = await ca.back_dated_by()
        if ca.capabilities.back_dating is BackDating.NONE:
            findings.append(
                Finding(
                    check="PKI back-dating",
                    verdict=Verdict.FAIL,
                    seen=f"[pki.{profile}] cannot back-date",
                    expected="notBefore at least 24 h in the past (guide section 1)",
                )
            )
        elif back_dated is not None:
            findings.append(
                Finding(
                    check="PKI back-dating",
                    verdict=Verdict.PASS if back_dated >= MINIMUM_BACK_DATING else Verdict.FAIL,
                    seen=f"{back_dated} before the signature",
                    expected="at least 24 h, better 24 h 10 min (guide section 1, edge case 1)",
                )
            )
        else:
            findings.append(not_checked("PKI back-dating", f"[pki.{profile}] does not tell; checked on B itself"))
        return findings

    async def _custody(self, plan: Plan) -> list[Finding]:
        profile = plan.certificate.custody
        custodian = self._adapters.custodian(profile)
        findings = [_missing("key custody", profile, await custodian.check_access())]
        if not custodian.exportable:
            findings.append(
                Finding(
                    check="key custody",
                    verdict=Verdict.FAIL,
                    seen=f"[keys.{profile}] does not give keys out",
                    expected="an exportable key: the platforms need it",
                )
            )
        return findings

    async def _notifications(self, plan: Plan) -> list[Finding]:
        names = [*plan.notifications.desks, *filter(None, [plan.notifications.carrier])]
        for name in names:
            self._adapters.notifier(name)
        return [_passed("notifications", ", ".join(names), "profiles that exist")]

    async def _platform(self, plan: Plan, endpoint: Endpoint, state: _Examined) -> list[Finding]:
        edge = self._adapters.edge(endpoint.platform)
        findings = [_missing("OAuth scopes", endpoint.platform, await edge.check_access(), endpoint.name)]
        trunk = await edge.read_trunk(endpoint.trunk)
        state.edge, state.trunk = edge, trunk
        findings.append(_passed("trunk", f"{trunk.name}, version {trunk.version}", endpoint=endpoint.name))
        if not trunk.enabled:
            findings.append(_failed("trunk", "disabled", "an enabled trunk", endpoint))
        if not state.pool_as_expected():
            seen = ", ".join(short(sha256) for sha256 in trunk.pool) or "empty"
            expected = "A alone; take out what an earlier rotation or an operator left, then start again"
            findings.append(_failed("pool", seen, expected, endpoint))
        findings += capability_findings(plan, endpoint, edge.capabilities)
        problems = await edge.configuration_problems(endpoint.trunk)
        findings += [_failed("configuration of the edge", problem, "as documented", endpoint) for problem in problems]
        health = await edge.health(endpoint.trunk)
        if not health.listener_up:
            findings.append(_failed("TLS listener", "down", "up", endpoint))
        return findings

    async def _nodes(self, plan: Plan, endpoint: Endpoint, state: _Examined) -> list[Finding]:
        prober, findings = self._adapters.prober(), []
        probes: list[ProbeResult] = []
        for node in endpoint.nodes:
            target = ProbeTarget(
                address=node.address, port=node.port, server_name=endpoint.fqdn, identity=endpoint.fqdn
            )
            probe = await prober.probe(target)
            probes.append(probe)
            verdict = Verdict.PASS if probe.good else Verdict.FAIL
            findings.append(
                Finding(check="handshake", verdict=verdict, seen=probe.text(), expected="good", endpoint=endpoint.name)
            )
        leaves = {probe.leaf_sha256 for probe in probes}
        if state.look.adopted_a is not None:
            return findings + await self._adopted_a(plan, endpoint, state, leaves)
        if len(leaves) != 1 or None in leaves or probes[0].leaf_pem is None:
            served = ", ".join(sorted(short(leaf) if leaf else "nothing" for leaf in leaves))
            return [*findings, _failed("A on every node", served, "one certificate on all nodes", endpoint)]
        a = facts(probes[0].leaf_pem)
        pool = state.trunk.pool if state.trunk else ()
        if not pool or pool[0] != a.sha256:
            shown = short(pool[0]) if pool else "nothing"
            return [
                *findings,
                _failed("A preferred", f"served {short(a.sha256)}, pool prefers {shown}", "equal", endpoint),
            ]
        state.a, state.a_pem = a, probes[0].leaf_pem
        findings.append(_passed("A", f"{short(a.sha256)}, serial {a.serial}", endpoint=endpoint.name))
        findings.append(self._lives_long_enough(plan, endpoint, a))
        findings.append(await self._who_revokes(plan, endpoint, probes[0].leaf_pem))
        return findings

    async def _adopted_a(
        self, plan: Plan, endpoint: Endpoint, state: _Examined, leaves: set[str | None]
    ) -> list[Finding]:
        """A of the run that is gone on with: nodes serve it or that run's B, and the platform must still have it."""
        assert state.look.adopted_a is not None
        assert state.edge is not None
        a = facts(state.look.adopted_a)
        strangers = [short(leaf) if leaf else "nothing" for leaf in leaves - {a.sha256, state.look.adopted_b}]
        findings = []
        if strangers:
            findings.append(
                _failed("A or its successor on every node", ", ".join(strangers), "what was adopted", endpoint)
            )
        if await state.edge.find_certificate(a.sha256) is None:
            findings.append(_failed("A on the platform", "not there", f"{short(a.sha256)}, to go back to", endpoint))
        if state.recorded() is None:
            findings.append(_failed("baseline", "the adopted run did not know this trunk", "the same trunks", endpoint))
        state.a, state.a_pem = a, state.look.adopted_a
        findings.append(_passed("A", f"{short(a.sha256)}, serial {a.serial}, adopted", endpoint=endpoint.name))
        findings.append(self._lives_long_enough(plan, endpoint, a))
        findings.append(await self._who_revokes(plan, endpoint, state.look.adopted_a))
        return findings

    def _lives_long_enough(self, plan: Plan, endpoint: Endpoint, a: CertificateFacts) -> Finding:
        t = plan.timings
        until = self._clock() + t.soak + t.overlap + t.hold + t.expiry_margin
        return Finding(
            check="A valid until the end of HOLD",
            verdict=Verdict.PASS if a.not_after >= until else Verdict.FAIL,
            seen=f"expires {a.not_after:%Y-%m-%d %H:%M} UTC",
            expected=f"after {until:%Y-%m-%d %H:%M} UTC",
            endpoint=endpoint.name,
        )

    async def _who_revokes(self, plan: Plan, endpoint: Endpoint, a_pem: str) -> Finding:
        if await self._adapters.authority(plan.certificate.ca).issued(a_pem):
            seen = f"[pki.{plan.certificate.ca}] issued A and revokes it"
        else:
            seen = "another CA issued A: its revocation is handed over with a notice"
        return _passed("who revokes A", seen, endpoint=endpoint.name)

    async def _other_users(self, plan: Plan, endpoint: Endpoint, state: _Examined) -> list[Finding]:
        if state.edge is None or state.a is None:
            return [not_checked("other users of A", "A could not be read", endpoint.name)]
        planned = {e.trunk for e in plan.endpoints if e.platform == endpoint.platform}
        others = [t for t in await state.edge.trunks_presenting(state.a.sha256) if t not in planned]
        unnamed = [trunk for trunk in others if trunk not in plan.certificate.also_used_by]
        if unnamed:
            return [
                _failed(
                    "other users of A",
                    ", ".join(unnamed),
                    "part of the plan, or named in certificate.also_used_by",
                    endpoint,
                )
            ]
        return [_passed("other users of A", ", ".join(others) or "none", endpoint=endpoint.name)]

    async def _usual_setups(self, plan: Plan, endpoint: Endpoint, state: _Examined) -> list[Finding]:
        """How many call setups succeed on A now: what the gates hold B against. Nothing is refused for it."""
        now, timings = self._clock(), plan.timings
        source = self._readings.carrier if by_carrier(endpoint, "call setups") else self._readings.platform
        tally, why = Tally(), None
        try:
            reading = await source(endpoint, now - timings.guard_window_limit, now)
        except RotatorError as error:
            why = str(error)
        else:
            peers = endpoint.peers if reading.reporter is Reporter.PLATFORM else None
            tally = call_setups(s for d in endpoint.directions for s in reading.real(direction=d, peers=peers))
            unusable = stale_or_damaged(reading, now=now, stale_after=timings.stale_after)
            if unusable or tally.attempts < plan.thresholds.guard_sample:
                why = unusable[0].seen if unusable else tally.text()
        if why is not None:
            alone = f"{why}; B is held against the thresholds alone"
            return [not_checked("call setups on A before the rotation", alone, endpoint.name)]
        state.setup_success = tally.success_rate
        return [usual_setups(tally, plan.thresholds, endpoint.name)]

    async def _second_source(self, plan: Plan, endpoint: Endpoint) -> list[Finding]:
        now, timings = self._clock(), plan.timings
        reading = await self._readings.second(endpoint, now - timings.guard_window_limit, now)
        seen = call_setups(reading.samples), handshakes(reading.samples)
        text = f"[metrics.{endpoint.metrics}]: handshakes {seen[1].text()}, call setups {seen[0].text()}"
        return [_passed("second source", text, "answers", endpoint=endpoint.name)]

    async def _srv(self, endpoint: Endpoint, state: _Examined) -> list[Finding]:
        assert endpoint.srv is not None
        zone = self._adapters.zone(endpoint.srv.dns)
        findings = [_missing("DNS update", endpoint.srv.dns, await zone.check_access(), endpoint.name)]
        records = await zone.read(endpoint.srv.name)
        priority = {record.target: record.priority for record in records.records}
        a, b = priority.get(endpoint.srv.target_a), priority.get(endpoint.srv.target_b)
        seen = ", ".join(f"{r.priority} {r.weight} {r.port} {r.target}" for r in records.records)
        if a is None or b is None or (a >= b and state.recorded() is None):
            return [*findings, _failed("SRV", seen, "both targets, that of A preferred", endpoint)]
        state.srv = records
        return [*findings, _passed("SRV", seen, endpoint=endpoint.name)]

    async def _carrier(self, endpoint: Endpoint) -> list[Finding]:
        carrier = self._adapters.carrier(endpoint.carrier)
        return [_missing("carrier health", endpoint.carrier, await carrier.check_access(endpoint), endpoint.name)]


class _Examined:
    """What the looks at one endpoint have found so far."""

    def __init__(self, look: EndpointLook) -> None:
        self.look = look
        self.edge: Edge | None = None
        self.trunk: TrunkState | None = None
        self.a: CertificateFacts | None = None
        self.a_pem: str | None = None
        self.srv: SrvSet | None = None
        self.setup_success: float | None = None

    def pool_as_expected(self) -> bool:
        """A alone; or, of a run that is gone on with, nothing but its A and its B."""
        assert self.trunk is not None
        if self.look.adopted_a is None:
            return len(self.trunk.pool) == 1
        known = {facts(self.look.adopted_a).sha256, self.look.adopted_b}
        return bool(self.trunk.pool) and known.issuperset(self.trunk.pool)

    def recorded(self) -> EndpointBaseline | None:
        """What the run that is gone on with had recorded of this very trunk."""
        if self.edge is None or self.trunk is None:
            return None
        physical = self.edge.physical_trunk(self.trunk.trunk)
        return next((b for b in self.look.baselines if b.physical == physical), None)

    def baseline(self, endpoint: Endpoint) -> EndpointBaseline | None:
        recorded = self.recorded()
        if recorded is not None:
            return recorded.model_copy(update={"endpoint": endpoint.name})
        if self.edge is None or self.trunk is None or self.a is None:
            return None
        return EndpointBaseline(
            endpoint=endpoint.name,
            physical=self.edge.physical_trunk(endpoint.trunk),
            trunk=self.trunk,
            a_not_after=self.a.not_after,
            srv=self.srv,
            setup_success=self.setup_success,
        )


def _passed(check: str, seen: str, expected: str = "", *, endpoint: str | None = None) -> Finding:
    return Finding(check=check, verdict=Verdict.PASS, seen=seen, expected=expected, endpoint=endpoint)


def _failed(check: str, seen: str, expected: str, endpoint: Endpoint) -> Finding:
    return Finding(check=check, verdict=Verdict.FAIL, seen=seen, expected=expected, endpoint=endpoint.name)


def _missing(check: str, profile: str, missing: tuple[str, ...], endpoint: str | None = None) -> Finding:
    verdict = Verdict.FAIL if missing else Verdict.PASS
    seen = f"missing: {', '.join(missing)}" if missing else f"{profile}: nothing is missing"
    return Finding(check=check, verdict=verdict, seen=seen, endpoint=endpoint)
