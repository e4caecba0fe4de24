"""The ten steps of guide section 4 and what surrounds them; each method is one phase of `domain.phases`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.baseline import EndpointRequest
    from activities.certificate import CertificateActivities, DiscardRequest, IssueRequest, RevokeRequest
    from activities.edge import EdgeActivities
    from activities.health import GateRequest, HealthActivities
    from activities.looks import Sight
    from adapters.notify.base import Severity
    from domain.gates import Finding, GateResult, Verdict, combine
    from domain.phases import GUARDED, Phase
    from domain.plan import Endpoint
    from domain.rotation import Cause, SideEffect
    from workflows.messages import LeftoverChoice, Waiting

from workflows.conduct import Conduct, TurnedBack, settle, waiting_for_gate
from workflows.expiry import ExpiryWatch
from workflows.guard import Guard
from workflows.preflight import Preflight

LONGEST_PAUSE = timedelta(minutes=30)
"""Between two attempts to see a trunk drained whose calls come and go."""

EdgeEffect = Callable[[Any, EndpointRequest], Awaitable[SideEffect]]
"""A side effect on one trunk (`activities.edge`)."""


class Steps:
    """The way forward. Every method may leave by `TurnedBack`."""

    def __init__(self, conduct: Conduct, guard: Guard) -> None:
        self._conduct = conduct
        self._guard = guard
        self._state = conduct.state
        self._plan = conduct.state.plan
        self._soak_since: datetime | None = None
        self._preferred_at: datetime | None = None
        self._expiry = ExpiryWatch(conduct)

    async def preflight(self, leftovers: LeftoverChoice) -> None:
        """Takes the leases and looks at everything; all problems are reported at once."""
        self._conduct.show()
        self._gate_now(await Preflight(self._conduct, leftovers).gate())
        assert self._state.a is not None
        self._state.record("certificate A", self._state.a.model_dump(mode="json"))
        self._expiry.begin()

    async def issue(self) -> None:
        """(1) Generate CSR and sign Cert B via enterprise PKI."""
        await self._enter(Phase.ISSUE)
        assert self._state.a is not None
        issued = await self._conduct.forward(
            CertificateActivities.issue, IssueRequest(run=self._state.run, a=self._state.a), "key, CSR, B signed"
        )
        self._state.b = issued.b
        self._state.record("certificate B", issued.b.model_dump(mode="json"))
        self._state.done(*issued.effects)
        findings = [
            Finding(check=rule.rule, verdict=Verdict.PASS, seen=rule.seen, expected=rule.expected)
            for rule in issued.rules
        ]
        self._gate_now(combine("issue", findings, workflow.now()))

    async def upload(self) -> None:
        """(2) Upload Cert B to platform via API."""
        await self._enter(Phase.UPLOAD)
        await self._everywhere(EdgeActivities.upload, "upload B to")

    async def bind(self) -> None:
        """(3) Bind Cert B to trunk certificate pool. The 72 hours count from the last endpoint."""
        await self._enter(Phase.BIND)
        await self._everywhere(EdgeActivities.bind, "bind B on")
        self._state.overlap_until = workflow.now() + self._plan.timings.overlap

    async def readiness(self) -> None:
        """(4) Trigger platform health check to verify TLS listener readiness."""
        await self._enter(Phase.READINESS)
        await self._conduct.gate(
            HealthActivities.readiness,
            self._request(workflow.now()),
            "listener up, A and B valid, canary served B",
            deadline=self._plan.timings.readiness_deadline,
            overridable=True,
        )

    async def soak(self) -> None:
        """(5) Monitor TLS handshake success rate for 15 minutes."""
        await self._enter(Phase.SOAK)
        timings = self._plan.timings
        self._soak_since = workflow.now()
        over = self._soak_since + timings.soak
        request = self._request(self._soak_since).model_copy(update={"not_before": over})

        async def timer() -> None:
            await self._conduct.until(over, "the soak time")

        async def gate() -> None:
            await self._conduct.gate(
                HealthActivities.soak,
                request,
                "handshakes and call setups, canary probes",
                deadline=timings.soak + timings.soak_grace,
                overridable=True,
            )

        await settle(timer(), gate())

    async def approval(self, phase: Phase, gate: str) -> None:
        """Waits for a person, if the plan wants one; the guard watches meanwhile."""
        await self._enter(phase)
        wanted = self._plan.approvals.prefer if gate == "prefer" else self._plan.approvals.remove
        if wanted:
            waiting = waiting_for_gate(gate, f"the approval `{gate}`")
            self._conduct.wait_for(waiting)
            self._conduct.people.alert(
                "waiting_for_approval", Severity.WARNING, waiting.what, f"signal approve: {waiting.answer}"
            )
            await workflow.wait_condition(lambda: gate in self._state.approved)
            self._conduct.check()
            self._conduct.wait_for(None)
        await self._guard.fresh_look()

    async def prefer(self) -> None:
        """(6) Update carrier DNS SRV records or trunk configuration to prefer Cert B, endpoint by endpoint.

        On an endpoint with a ramp, step by step, each looked at before the next.
        """
        await self._enter(Phase.PREFER)
        self._conduct.people.tell_carrier(
            "flush_ocsp_and_pause_resumption",
            "our trunks begin to present a new certificate",
            "flush OCSP caches for the trunk FQDNs; pause TLS session resumption until told again",
        )
        self._preferred_at = workflow.now()
        for endpoint in self._plan.endpoints:
            for share in endpoint.ramp:
                await self._prefer(endpoint, share)
                over = workflow.now() + self._plan.timings.ramp_step
                await self._conduct.until(over, f"{share} % of new connections on B, on {endpoint.name}")
                await self._guard.fresh_look()
            await self._prefer(endpoint)

    async def verify(self) -> None:
        """(7) Verify bidirectional TLS success rate exceeds 99.5 percent."""
        await self._enter(Phase.VERIFY)
        request = self._request(workflow.now()).model_copy(
            update={"baseline_since": self._soak_since, "before_prefer": self._preferred_at}
        )
        async with self._closing_connections():
            await self._conduct.gate(
                HealthActivities.verify,
                request,
                "platform and carrier on B, both directions",
                deadline=self._plan.timings.verify_deadline,
                overridable=True,
            )

    async def adopt(self) -> None:
        """(8) Wait for call volume threshold where 85 percent of new calls use Cert B."""
        await self._enter(Phase.ADOPT)
        async with self._closing_connections():
            await self._conduct.gate(
                HealthActivities.adopt,
                self._request(self._preferred_at or workflow.now()),
                "share of new calls on B",
                deadline=self._plan.timings.adopt_deadline,
                overridable=True,
            )

    async def overlap(self) -> None:
        """The rest of the 72-hour overlap window (guide section 1), longer if a person wants it; then a fresh look."""
        await self._enter(Phase.OVERLAP)
        until: datetime | None = None
        while until is None or self._extended(until):
            assert self._state.overlap_until is not None
            until = self._state.overlap_until
            await self._conduct.until(until, "the end of the overlap", unless=partial(self._extended, until))
            await self._guard.fresh_look()
            await self._free()

    async def drain(self) -> None:
        """Waits until no active call is on A, twice, and every known peer was seen on B. Nobody can override it."""
        await self._enter(Phase.DRAIN)
        async with self._closing_connections():
            await self._drained()

    async def remove(self) -> None:
        """(9) Remove Cert A from trunk certificate pool."""
        waited = self._plan.approvals.remove
        while await self._free() or waited:  # a zero that was counted before a wait is none
            waited = False
            await self._drained()
        await self._enter(Phase.REMOVE)
        await self._everywhere(EdgeActivities.remove, "remove A from")
        await self._guard.fresh_look()

    async def hold(self) -> None:
        """Quarantine: A is out of use and still valid. Its end is the last moment at which turning back is asked."""
        await self._enter(Phase.HOLD)
        await self._conduct.until(workflow.now() + self._plan.timings.hold, "the end of the quarantine of A")
        await self._guard.fresh_look()

    async def restore(self) -> None:
        """Settings as they were; the carrier may resume TLS sessions. From here there is no way back."""
        await self._enter(Phase.RESTORE)
        self._expiry.end()
        await self._for_ever(EdgeActivities.restore, "restore the settings of")
        self._conduct.people.tell_carrier(
            "resume_resumption",
            "our trunks present the new certificate alone",
            "enable TLS session resumption again 30 minutes after this notice; the old certificate may be dropped",
        )

    async def revoke(self) -> None:
        """(10) Revoke Cert A in enterprise PKI, and delete it from the platforms."""
        await self._enter(Phase.REVOKE)
        assert self._state.a is not None
        assert self._state.a_pem is not None
        revoked = await self._conduct.insist(
            CertificateActivities.revoke_a,
            RevokeRequest(run=self._state.run, sha256_a=self._state.a.sha256, a_pem=self._state.a_pem),
            f"revoke A, serial {self._state.a.serial}",
        )
        self._state.done(revoked.effect)
        self._state.a_revoked = revoked.handed_over is None
        strays = await self._conduct.insist(
            CertificateActivities.revoke_strays,
            DiscardRequest(run=self._state.run),
            "revoke what was signed twice for B's key, if anything was",
        )
        self._state.done(strays)
        if revoked.handed_over is not None:
            self._conduct.people.alert(
                "certificate_handed_over", Severity.WARNING, revoked.handed_over, "revoke A at its issuer"
            )
        if not self._plan.certificate.also_used_by:
            await self._for_ever(EdgeActivities.delete_a, "delete A from")
            destroyed = await self._conduct.insist(
                CertificateActivities.destroy_key_of_a,
                RevokeRequest(run=self._state.run, sha256_a=self._state.a.sha256, a_pem=self._state.a_pem),
                "destroy the key of A, if it is in custody",
            )
            self._state.done(destroyed)
        await self._enter(Phase.COMPLETED)
        self._conduct.people.alert("completed", Severity.INFO, "B is served alone, A is out of use")

    def _extended(self, until: datetime) -> bool:
        return self._state.overlap_until != until

    # -- parts ---------------------------------------------------------------------------------------------------

    async def _prefer(self, endpoint: Endpoint, share: int | None = None) -> None:
        await self._free()
        request, some = self._endpoint(endpoint), "" if share is None else f" for {share} %"
        effect = await self._conduct.forward(
            EdgeActivities.prefer, request.model_copy(update={"share": share}), f"prefer B on {endpoint.name}{some}"
        )
        self._state.done(effect)

    async def _enter(self, phase: Phase) -> None:
        """Goes on to a phase: not while the guard is blind or a person paused, and after that not without a look."""
        await self._free()
        self._conduct.move(phase)
        await self._guard.keep_pace(phase)

    async def _free(self) -> bool:
        """Waits while the advance is held back; after that a fresh look comes first. True when it waited.

        So it does after a person's override: the figures that did not decide are not the only ones.
        """
        waited = False
        while await self._conduct.held_back() or self._conduct.overridden():
            waited = True
            if self._state.phase in GUARDED:
                await self._guard.fresh_look()
        return waited

    def _gate_now(self, result: GateResult) -> None:
        """A gate that is decided at once: anything but PASS ends the way forward."""
        self._state.decided(result)
        self._conduct.show()
        if result.verdict is not Verdict.PASS:
            self._conduct.turn(Cause.GATE_FAILED, f"gate {result.gate}: {result.reason}", result.decided_at)
            raise TurnedBack

    async def _everywhere(self, activity: EdgeEffect, summary: str) -> None:
        """A side effect on all endpoints at once; all are settled before anything else starts."""
        effects = await settle(
            *(
                self._conduct.forward(activity, self._endpoint(endpoint), f"{summary} {endpoint.name}")
                for endpoint in self._plan.endpoints
            )
        )
        self._state.done(*effects)
        self._conduct.show()

    async def _for_ever(self, activity: EdgeEffect, summary: str) -> None:
        """A side effect after the point of no return: retried until it succeeds."""
        effects = await settle(
            *(
                self._conduct.insist(activity, self._endpoint(endpoint), f"{summary} {endpoint.name}")
                for endpoint in self._plan.endpoints
            )
        )
        self._state.done(*effects)
        self._conduct.show()

    @contextlib.asynccontextmanager
    async def _closing_connections(self) -> AsyncIterator[None]:
        """Where the plan says so, connections that still keep A after a while are closed in an orderly way, once."""
        after = self._plan.timings.close_connections_after

        async def close(after: timedelta) -> None:
            await workflow.sleep(after, summary="until connections on A are closed in an orderly way")
            await self._everywhere(EdgeActivities.close_connections, "close connections on A of")

        closing = asyncio.create_task(close(after)) if after is not None else None
        try:
            yield
        finally:
            if closing is not None:
                closing.cancel()
                await workflow.wait([closing])
        if closing is not None and not closing.cancelled() and (failed := closing.exception()) is not None:
            raise failed

    async def _drained(self) -> None:
        """Zero, and zero again a stated time apart: twice in a row, or it begins anew, after ever longer pauses.

        Calls that come and go on A must not fill the history, and have one deadline in all.
        """
        timings = self._plan.timings
        due, pause = workflow.now() + timings.drain_deadline, timings.drain_spacing
        while True:
            request = self._request(self._preferred_at or workflow.now())
            first = await self._conduct.gate(
                HealthActivities.drain,
                request,
                "active calls on A",
                deadline=max(due - workflow.now(), timedelta(seconds=1)),
                overridable=False,
            )
            self._conduct.wait_for(Waiting(what="the second count of calls on A"))
            await workflow.sleep(timings.drain_spacing, summary="between the two counts of calls on A")
            self._conduct.check()
            request = request.model_copy(update={"counted_at": first.decided_at})
            again = await self._conduct.one_look(HealthActivities.drain, request, "active calls on A, counted again")
            if again.sight is Sight.SEEING and again.result is not None and again.result.verdict is Verdict.PASS:
                self._state.decided(again.result)
                self._conduct.wait_for(None)
                return
            self._conduct.wait_for(Waiting(what=f"calls on A, which came back: {again.text}"))
            await workflow.sleep(pause, summary="calls came back on A: counted again later")
            self._conduct.check()
            pause = min(pause * 2, LONGEST_PAUSE)

    def _endpoint(self, endpoint: Endpoint) -> EndpointRequest:
        assert self._state.a is not None
        assert self._state.b is not None
        return EndpointRequest(
            run=self._state.run,
            endpoint=endpoint.name,
            sha256_a=self._state.a.sha256,
            sha256_b=self._state.b.sha256,
            baseline=self._state.baselines[endpoint.name],
        )

    def _request(self, since: datetime) -> GateRequest:
        assert self._state.a is not None
        assert self._state.b is not None
        return GateRequest(
            run=self._state.run,
            sha256_a=self._state.a.sha256,
            sha256_b=self._state.b.sha256,
            baselines=tuple(self._state.baselines[endpoint.name] for endpoint in self._plan.endpoints),
            since=since,
            interval=min(self._plan.timings.gate_interval, timedelta(minutes=5)),
        )
