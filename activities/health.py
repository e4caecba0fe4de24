"""The gates of steps 4, 5, 7, 8 and of DRAIN, and the guard: they read, ask `domain.gates`, and say what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from pydantic import Field
from temporalio import activity

from activities.baseline import EndpointBaseline
from activities.diagnosing import ALL_IN_S, DIAGNOSIS_S, OF_A_BREACH_S, Diagnosing, Suspect
from activities.handshake_times import HandshakeTimes
from activities.looks import (
    LOOK_DEADLINE_S,
    WHOLE_LOOK_S,
    Blind,
    Sight,
    Watched,
    look_within,
    nothing_new,
)
from activities.observing import Observing
from activities.readings import Readings, since_reset
from adapters.edges.base import EdgeHealth
from adapters.probe.base import ProbeResult, ProbeTarget
from adapters.registry import Adapters
from domain.errors import RotatorError
from domain.gates import (
    BLIND_SWITCH,
    Finding,
    GateResult,
    Verdict,
    adopt_findings,
    by_carrier,
    calls_finding,
    combine,
    freshness,
    not_checked,
    same_processes,
    soak_findings,
    soaked_long_enough,
    verify_findings,
)
from domain.guard import GuardFinding, GuardVerdict, guard_endpoint, is_news
from domain.handshakes import Reading, Record, handshakes
from domain.offers import staple_finding, ticket_finding, time_finding
from domain.plan import Endpoint, Plan
from domain.rotation import Run, served_on, short
from domain.texts import Readable, listed


class GateRequest(Watched):
    """A gate over all endpoints. `since` opens its window; before `not_before` it does not pass.

    `before_prefer` is the moment until which A's own figures are the baseline of VERIFY. `counted_at` is the first of
    the two counts of DRAIN, when this is the second.
    """

    run: Run
    sha256_a: str
    sha256_b: str
    baselines: tuple[EndpointBaseline, ...]
    since: datetime
    not_before: datetime | None = None
    baseline_since: datetime | None = None
    before_prefer: datetime | None = None
    counted_at: datetime | None = None
    one_look: bool = False

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.run.plan

    def setup_success(self, endpoint: Endpoint) -> float | None:
        """The share of call setups that succeeded on A before the rotation, 0–1; None when nobody could tell."""
        return next((one.setup_success for one in self.baselines if one.endpoint == endpoint.name), None)


class GateLook(Record):
    """What a gate's watcher returns: a decision, or that it cannot see, or that it sees again."""

    sight: Sight
    result: GateResult | None = None
    text: Readable = ""


class GuardRequest(Watched):
    """What the guard watches and what it said last."""

    run: Run
    sha256_a: str
    sha256_b: str
    said: GuardVerdict = GuardVerdict.HEALTHY
    one_look: bool = False
    setup_success: Mapping[str, float] = Field(
        default={}, description="endpoint → share of call setups that succeeded on A before the rotation, 0–1"
    )


class GuardLook(Record):
    """What the guard says, with the figures of every endpoint."""

    verdict: GuardVerdict
    text: Readable
    findings: tuple[GuardFinding, ...] = ()
    looked_at: datetime


CARRIER_DEADLINE_S = 1.5
"""Seconds that the guard waits for the carrier's figures, so that the look goes on without them in its own time."""

Findings = Callable[[GateRequest, Endpoint, datetime], Awaitable[list[Finding]]]


class HealthActivities:
    """Watchers. They keep no state that decides: sources answer `samples(since, until)`."""

    def __init__(self, adapters: Adapters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._adapters = adapters
        self._clock = clock
        self._readings = Readings(adapters, clock)
        self._diagnosing = Diagnosing(adapters, clock)
        self._times = HandshakeTimes()

    # -- gates ---------------------------------------------------------------------------------------------------

    @activity.defn
    async def readiness(self, request: GateRequest) -> GateLook:
        """Step 4: listener up, the platform calls A and B valid, canary handshakes are served B."""
        return await self._gate("readiness", request, self._readiness, self._observed)

    @activity.defn
    async def soak(self, request: GateRequest) -> GateLook:
        """Step 5: probes the canary path at every look, and judges the whole window when the soak time is over."""
        return await self._gate("soak", request, self._soak)

    @activity.defn
    async def verify(self, request: GateRequest) -> GateLook:
        """Step 7: platform and carrier on B, both directions."""
        return await self._gate("verify", request, self._verify, self._observed)

    @activity.defn
    async def adopt(self, request: GateRequest) -> GateLook:
        """Step 8: the share of new calls on B within the plan's window."""
        return await self._gate("adopt", request, self._adopt)

    @activity.defn
    async def drain(self, request: GateRequest) -> GateLook:
        """Before step 9: no active call on A on any trunk, and every known peer seen on B."""
        return await self._gate("drain", request, self._drain, self._observed)

    async def _gate(self, gate: str, request: GateRequest, *looks: Findings) -> GateLook:
        now, started = self._clock(), time.monotonic()

        async def judged() -> GateResult:
            endpoints = request.plan.endpoints
            each = await asyncio.gather(*(self._by_itself(look, request, e, now) for e in endpoints for look in looks))
            return combine(gate, [finding for found in each for finding in found], now)

        try:
            result = await look_within(WHOLE_LOOK_S, judged)
        except Blind as blind:
            result = combine(gate, [Finding(check="the look", verdict=Verdict.ERROR, seen=str(blind))], now)
        if result.verdict is Verdict.FAIL:
            result = await self._explained(request, result, started)
        text = result.reason
        sight = Sight.BLIND if result.verdict is Verdict.ERROR else Sight.SEEING
        early = request.not_before is not None and now < request.not_before
        if result.verdict is Verdict.FAIL or (result.verdict is Verdict.PASS and not early) or request.one_look:
            return GateLook(sight=sight, result=result, text=text)
        if sight is Sight.BLIND and request.last is Sight.SEEING:
            return GateLook(sight=sight, text=text)
        if sight is Sight.BLIND:
            raise nothing_new(f"still blind: {text}", request.interval)
        if request.last is Sight.BLIND and not request.calm(now):
            return GateLook(sight=sight, text=f"sees again: {text}")
        every = sorted(result.findings, key=lambda finding: finding.verdict in (Verdict.PASS, Verdict.NOT_CHECKED))
        raise nothing_new("; ".join(finding.text() for finding in every), request.interval)

    async def _explained(self, request: GateRequest, result: GateResult, started: float) -> GateResult:
        """The same verdict; what failed first on each endpoint says why, as far as that could be learnt in time."""
        failed = {f.endpoint: f for f in reversed(result.findings) if f.verdict is Verdict.FAIL and f.endpoint}
        suspects = _suspects(request, request.since)
        budget_s = min(DIAGNOSIS_S, _left(started))
        said = await self._diagnosing.added_to({n: f.seen for n, f in failed.items()}, suspects, budget_s)
        explained = tuple(
            f.model_copy(update={"seen": said[f.endpoint]}) if f.endpoint in said and f is failed[f.endpoint] else f
            for f in result.findings
        )
        return result.model_copy(update={"findings": explained})

    async def _by_itself(
        self, look: Findings, request: GateRequest, endpoint: Endpoint, now: datetime
    ) -> list[Finding]:
        """One endpoint's findings; where it cannot be looked at this is an ERROR, which hides no other's FAIL."""
        try:
            return await look_within(LOOK_DEADLINE_S, lambda: look(request, endpoint, now))
        except Blind as blind:
            return [Finding(check="the look", verdict=Verdict.ERROR, seen=str(blind), endpoint=endpoint.name)]

    async def _readiness(self, request: GateRequest, endpoint: Endpoint, now: datetime) -> list[Finding]:
        health = await self._health(endpoint)
        findings = [
            Finding(
                check="TLS listener",
                verdict=Verdict.PASS if health.listener_up else Verdict.FAIL,
                seen="up" if health.listener_up else "down",
                expected="up",
                endpoint=endpoint.name,
            )
        ]
        states = {certificate.sha256: certificate for certificate in health.certificates}
        for name, sha256 in (("A", request.sha256_a), ("B", request.sha256_b)):
            state = states.get(sha256)
            if state is None:
                verdict, seen = Verdict.INCONCLUSIVE, "not listed yet"
            else:
                verdict = Verdict.PASS if state.valid else Verdict.FAIL
                seen = "valid" if state.valid else f"invalid: {state.reason or 'no reason given'}"
            findings.append(
                Finding(
                    check=f"tlsCertificateValidation of {name}",
                    verdict=verdict,
                    seen=f"{short(sha256)} {seen}",
                    expected="valid",
                    endpoint=endpoint.name,
                )
            )
        probes = await self._canary(request, endpoint, count=1, call=False)
        findings += [self._canary_finding(endpoint, probe, request.sha256_b) for probe in probes]
        if endpoint.substitutes.canary is not None:
            findings.append(not_checked("canary probe", BLIND_SWITCH, endpoint.name))
        on_b = [probe for probe in probes if probe.leaf_sha256 == request.sha256_b]
        findings.append(staple_finding(endpoint.name, [probe.staple for probe in on_b]))
        findings.append(ticket_finding(endpoint.name, [probe.resumption for probe in on_b]))
        return findings

    async def _soak(self, request: GateRequest, endpoint: Endpoint, now: datetime) -> list[Finding]:
        rate = self._adapters.settings.probe.rate_per_endpoint
        count = max(1, min(request.plan.probes_a_look, round(rate * request.interval.total_seconds())))
        probes, timed = await asyncio.gather(
            self._canary(request, endpoint, count=count, call=True), self._timed(request, endpoint)
        )
        findings = [self._canary_finding(endpoint, probe, request.sha256_b) for probe in probes if not probe.good]
        self._times.note(request.run, endpoint.name, [*probes, *timed])
        on_a, on_b = (self._times.of(request.run, endpoint.name, x) for x in (request.sha256_a, request.sha256_b))
        findings.append(time_finding(endpoint.name, on_a, on_b))
        until = self._clock()
        reading, contradicted = await self._readings.our_side(request.plan, endpoint, "soak", request.since, until)
        findings += contradicted
        carrier = None
        if any(by_carrier(endpoint, name) for name in ("handshakes", "call setups")):
            carrier = await since_reset(self._readings.carrier, endpoint, request.since, until)
        for one in filter(None, (reading, carrier)):
            findings += soaked_long_enough(one, request.since, now=now, soak=request.plan.timings.soak)
        return findings + soak_findings(
            endpoint,
            reading,
            carrier,
            sha256_b=request.sha256_b,
            thresholds=request.plan.thresholds,
            now=self._clock(),
            timings=request.plan.timings,
            setup_success=request.setup_success(endpoint),
        )

    async def _verify(self, request: GateRequest, endpoint: Endpoint, now: datetime) -> list[Finding]:
        (platform, contradicted), carrier = await asyncio.gather(
            self._readings.our_side(request.plan, endpoint, "verify", request.since, now, sha256=request.sha256_b),
            since_reset(self._readings.carrier, endpoint, request.since, now),
        )
        baseline = None
        if request.baseline_since is not None and request.before_prefer is not None:
            believed = self._readings.believed(endpoint, "verify")
            baseline = await believed(endpoint, request.baseline_since, request.before_prefer)
        return contradicted + verify_findings(
            endpoint,
            (platform, carrier),
            sha256_a=request.sha256_a,
            sha256_b=request.sha256_b,
            baseline=baseline,
            thresholds=request.plan.thresholds,
            now=self._clock(),
            timings=request.plan.timings,
            setup_success=request.setup_success(endpoint),
        )

    async def _adopt(self, request: GateRequest, endpoint: Endpoint, now: datetime) -> list[Finding]:
        since = max(request.since, now - request.plan.timings.adopt_window)
        reading, contradicted = await self._readings.our_side(request.plan, endpoint, "adopt", since, now)
        return contradicted + adopt_findings(
            endpoint,
            reading,
            sha256_b=request.sha256_b,
            thresholds=request.plan.thresholds,
            now=self._clock(),
            timings=request.plan.timings,
        )

    async def _drain(self, request: GateRequest, endpoint: Endpoint, now: datetime) -> list[Finding]:
        """No call on A, every peer seen on B. A reset of the counters matters between the two counts, not days ago."""
        health, since = await asyncio.gather(
            self._health(endpoint), self._readings.platform(endpoint, request.since, now)
        )
        recent = now - 2 * request.plan.timings.drain_spacing
        findings = [
            calls_finding(
                endpoint.name,
                health.active_calls.get(request.sha256_a),
                health.clock,
                now=self._clock(),
                stale_after=request.plan.timings.stale_after,
            ),
            *same_processes(endpoint.name, health.counting_since, request.counted_at),
            *freshness(
                since.model_copy(update={"since": min(recent, request.counted_at or recent)}),
                now=self._clock(),
                stale_after=request.plan.timings.stale_after,
            ),
        ]
        on_b = since.real(sha256=request.sha256_b)
        unseen = [peer for peer in endpoint.peers if not handshakes([s for s in on_b if s.peer == peer]).successes]
        findings.append(
            Finding(
                check="peers seen on B",
                verdict=Verdict.INCONCLUSIVE if unseen else Verdict.PASS,
                seen=f"not yet: {listed(unseen)}" if unseen else listed(endpoint.peers),
                expected="every known peer",
                endpoint=endpoint.name,
            )
        )
        return [*findings, await self._nodes(endpoint)]

    async def _nodes(self, endpoint: Endpoint) -> Finding:
        """A node that is away would come back with A: as long as one is, A is not taken away from the others."""
        state = await self._adapters.edge(endpoint.platform).read_trunk(endpoint.trunk)
        prober = self._adapters.prober()
        probes = await asyncio.gather(
            *(
                prober.probe(
                    ProbeTarget(address=n.address, port=n.port, server_name=endpoint.fqdn, identity=endpoint.fqdn)
                )
                for n in endpoint.nodes
            )
        )
        wrong = [
            f"{node.address}:{node.port} {probe.text()}"
            for node, probe in zip(endpoint.nodes, probes, strict=True)
            if not probe.good or probe.leaf_sha256 not in served_on(endpoint, node, state.pool, state.presented)
        ]
        return Finding(
            check="every node",
            verdict=Verdict.INCONCLUSIVE if wrong else Verdict.PASS,
            seen=listed(wrong) if wrong else f"{len(probes)} serve what the pool says",
            expected="answers, and serves what the pool says",
            endpoint=endpoint.name,
        )

    async def _observed(self, request: GateRequest, endpoint: Endpoint, now: datetime) -> list[Finding]:
        """What is said of the trunk on its other side, where the plan names somebody who sees it from there."""
        return await Observing(self._adapters, endpoint, self._clock).connected()

    # -- the guard -----------------------------------------------------------------------------------------------

    @activity.defn
    async def guard(self, request: GuardRequest) -> GuardLook:
        """Looks at every endpoint once: BREACH, BLIND, or a change for the better is returned, the rest is benign."""
        started = time.monotonic()
        try:
            looked = await look_within(WHOLE_LOOK_S, lambda: self._guard(request))
        except Blind as blind:
            looked = GuardLook(verdict=GuardVerdict.BLIND, text=str(blind), looked_at=self._clock())
        if looked.verdict is GuardVerdict.BREACH:
            looked = await self._breach_explained(request, looked, started)
        if request.one_look or is_news(request.said, looked.verdict, calm=request.calm(looked.looked_at)):
            return looked
        raise nothing_new(f"{looked.verdict}: {looked.text}", request.interval)

    async def _guard(self, request: GuardRequest) -> GuardLook:
        findings = await asyncio.gather(*(self._guard_by_itself(request, e) for e in request.run.plan.endpoints))
        return _guard_look(findings, self._clock())

    async def _breach_explained(self, request: GuardRequest, looked: GuardLook, started: float) -> GuardLook:
        """The same breach; each endpoint's finding says why, as far as that could be learnt in time."""
        breached = {f.endpoint: f.seen for f in looked.findings if f.verdict is GuardVerdict.BREACH}
        suspects = _suspects(request, looked.looked_at - request.run.plan.timings.guard_window_limit)
        said = await self._diagnosing.added_to(breached, suspects, min(OF_A_BREACH_S, _left(started)))
        findings = [
            f.model_copy(update={"seen": said[f.endpoint]}) if f.endpoint in breached and f.endpoint in said else f
            for f in looked.findings
        ]
        return _guard_look(findings, looked.looked_at)

    async def _guard_by_itself(self, request: GuardRequest, endpoint: Endpoint) -> GuardFinding:
        """One endpoint's finding; where it cannot be looked at this is BLIND, which hides no other's BREACH."""
        try:
            return await look_within(LOOK_DEADLINE_S, lambda: self._guard_endpoint(request, endpoint))
        except Blind as blind:
            return GuardFinding(endpoint=endpoint.name, verdict=GuardVerdict.BLIND, seen=str(blind))

    async def _guard_endpoint(self, request: GuardRequest, endpoint: Endpoint) -> GuardFinding:
        """The first window that decides. A carrier that cannot be asked hides no breach that the platform shows."""
        plan, now = request.run.plan, self._clock()
        window, widest = plan.timings.guard_window, plan.timings.guard_window_limit

        def judged(platform: Reading, carrier: Reading | None, *, window_is_widest: bool) -> GuardFinding | None:
            return guard_endpoint(
                endpoint,
                platform,
                carrier,
                thresholds=plan.thresholds,
                now=self._clock(),
                timings=plan.timings,
                window_is_widest=window_is_widest,
                certificates=(request.sha256_a, request.sha256_b),
                setup_success=request.setup_success.get(endpoint.name),
            )

        deaf: GuardFinding | None = None
        while True:
            since = now - window
            platform = await self._readings.platform(endpoint, since, now)
            found = judged(platform, None, window_is_widest=False)
            if found is None and deaf is None:
                try:
                    # Only of what the platform has counted: not what it will count, nor what a reset took from it.
                    counted = min(now, platform.read_at)
                    opened = min(max(since, platform.counters_since or since), counted - timedelta(seconds=1))
                    carrier = await look_within(
                        CARRIER_DEADLINE_S, partial(self._readings.carrier, endpoint, opened, counted)
                    )
                except Blind as blind:
                    attempts = handshakes(platform.real(peers=endpoint.peers)).attempts
                    seen = f"{attempts} attempts here, and the carrier cannot be asked: {blind}"
                    deaf = GuardFinding(endpoint=endpoint.name, verdict=GuardVerdict.BLIND, seen=seen)
                else:
                    found = judged(platform, carrier, window_is_widest=window >= widest)
            if found is not None and (deaf is None or found.verdict is GuardVerdict.BREACH):
                return found
            if window >= widest:
                assert deaf is not None, "the widest window has a verdict"
                return deaf
            window = min(window * 2, widest)

    # -- readings ------------------------------------------------------------------------------------------------

    async def _health(self, endpoint: Endpoint) -> EdgeHealth:
        return await self._adapters.edge(endpoint.platform).health(endpoint.trunk)

    async def _canary(self, request: GateRequest, endpoint: Endpoint, *, count: int, call: bool) -> list[ProbeResult]:
        if endpoint.substitutes.canary is not None:
            return []
        state = await self._adapters.edge(endpoint.platform).read_trunk(endpoint.trunk)
        path = state.canary_path
        if state.canary != request.sha256_b or path is None:
            raise RotatorError("the trunk has no canary path to B", where=endpoint.name, seen=str(state.canary))
        target = ProbeTarget(
            address=endpoint.nodes[0].address,
            port=path.port or endpoint.nodes[0].port,
            server_name=path.server_name or endpoint.fqdn,
            identity=endpoint.fqdn,
            test_call=endpoint.test_call if call else None,
        )
        prober = self._adapters.prober()
        return list(await asyncio.gather(*(prober.probe(target) for _ in range(count))))

    async def _timed(self, request: GateRequest, endpoint: Endpoint) -> list[ProbeResult]:
        """One handshake on A, where it is preferred still, to compare B's times with."""
        if endpoint.substitutes.canary is not None:
            return []
        node = endpoint.nodes[0]
        target = ProbeTarget(address=node.address, port=node.port, server_name=endpoint.fqdn, identity=endpoint.fqdn)
        return [await self._adapters.prober().probe(target)]

    def _canary_finding(self, endpoint: Endpoint, probe: ProbeResult, sha256_b: str) -> Finding:
        served_b = probe.leaf_sha256 == sha256_b
        refused = probe.leaf_sha256 is not None and (
            not served_b or probe.chain_verified is False or probe.identity_matches is False
        )
        verdict = Verdict.PASS if probe.good and served_b else Verdict.FAIL if refused else Verdict.INCONCLUSIVE
        return Finding(
            check="canary probe",
            verdict=verdict,
            seen=probe.text(),
            expected=f"a good handshake that is served {short(sha256_b)}",
            endpoint=endpoint.name,
            synthetic=True,
        )


def _suspects(request: GateRequest | GuardRequest, since: datetime) -> list[Suspect]:
    plan = request.run.plan
    return [Suspect(plan, endpoint, request.sha256_a, request.sha256_b, since) for endpoint in plan.endpoints]


def _left(started: float) -> float:
    """Seconds that are left for a diagnosis, so that the look ends in its own time."""
    return ALL_IN_S - (time.monotonic() - started)


_WORST: Sequence[GuardVerdict] = (GuardVerdict.BREACH, GuardVerdict.BLIND, GuardVerdict.QUIET, GuardVerdict.HEALTHY)


def _guard_look(findings: Sequence[GuardFinding], at: datetime) -> GuardLook:
    """The worst verdict of all endpoints speaks for the rotation; its endpoints are named first."""
    worst = min((finding.verdict for finding in findings), key=_WORST.index)
    ordered = sorted(findings, key=lambda finding: _WORST.index(finding.verdict))
    text = "; ".join(f"{f.endpoint}: {f.seen}" for f in ordered if f.verdict is worst)
    return GuardLook(verdict=worst, text=text, findings=tuple(ordered), looked_at=at)
