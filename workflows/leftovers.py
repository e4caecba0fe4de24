"""Leftovers of a run that was terminated or reset: reported, and adopted or cleaned when the operator said so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.baseline import EndpointBaseline, EndpointRequest
    from activities.certificate import CertificateActivities, DiscardRequest, RevokeRequest
    from activities.edge import EdgeActivities, Reverted
    from activities.leftovers import ADOPTED_MEMO, DeadRun, Leftover, LeftoverActivities, LeftoversFound
    from domain.gates import Finding, Verdict
    from domain.phases import ABORTABLE, REVERSIBLE, Phase
    from domain.rotation import SideEffect
    from workflows.messages import LeftoverChoice

from workflows.conduct import Conduct, settle
from workflows.lease import Leases

CHECK = "leftovers of earlier runs"
BY_HAND = 'nothing of an earlier run; take it away by hand (docs/operating.md, "What a terminated run leaves")'
CHOOSE = "nothing of an earlier run; start again with `--leftovers adopt` or `--leftovers clean`"

ADOPTABLE = ABORTABLE | REVERSIBLE
"""Where a run may have ended that is gone on with: it was on its way forward, and A was in reach."""

NO_WAY_BACK = frozenset({Phase.RESTORE, Phase.REVOKE})
UNTOUCHED = ABORTABLE | {Phase.ABORTED}
"""No endpoint had been changed."""


class Leftovers:
    """Finds what earlier runs left, once our leases are held, and does what the operator chose."""

    def __init__(self, conduct: Conduct, leases: Leases, choice: LeftoverChoice) -> None:
        self._conduct = conduct
        self._leases = leases
        self._choice = choice
        self._state = conduct.state
        self.adopted: DeadRun | None = None

    async def settle(self) -> list[Finding]:
        """The findings of PREFLIGHT on leftovers; what was adopted is in `adopted`, and its key is ours."""
        found = await self._conduct.forward(LeftoverActivities.find_leftovers, self._state.run, "look for leftovers")
        if not found.leftovers:
            return reported(found)
        return [finding for one in found.leftovers for finding in await self._settled(one)]

    async def _settled(self, one: Leftover) -> list[Finding]:
        if self._choice is LeftoverChoice.CLEAN:
            return await self._clean(one)
        if one.dead is not None and one.dead.phase in ADOPTABLE:
            if one.own:  # a reset goes on with what is its own
                return [self._adopt(one, one.dead)]
            if self._choice is LeftoverChoice.ADOPT and self.adopted is None:
                return [self._adopt(one, one.dead)]
        if self._choice is LeftoverChoice.ADOPT:
            why = f"{one.text()}; it cannot be adopted: one run, that is known and had not begun to revoke A, can be"
            return [_failed(why, "nothing of an earlier run; `--leftovers clean` takes it away")]
        return [_report(one)]

    def _adopt(self, one: Leftover, dead: DeadRun) -> Finding:
        self.adopted, self._state.adopted = dead, True
        if not one.own:
            self._state.run = self._state.run.model_copy(update={"key": one.key})
            workflow.upsert_memo({ADOPTED_MEMO: one.key})
        self._state.record("adopted", {"leftovers": one.text()})
        return Finding(check=CHECK, verdict=Verdict.PASS, seen=f"adopted: {one.text()}")

    async def _clean(self, one: Leftover) -> list[Finding]:
        """A alone on every endpoint, settings and DNS back, B gone; or the end of A, where that had begun."""
        dead = one.dead
        if dead is None:
            return [_failed(one.text(), BY_HAND)]
        refused = [
            finding
            for baseline in dead.baselines
            if not self._leases.holds(baseline.physical)
            for finding in [await self._leases.take(baseline.physical, called=f"lease on {baseline.endpoint}")]
            if finding.verdict is not Verdict.PASS
        ]
        if refused:
            return refused
        kept = await (self._finish(dead) if dead.phase in NO_WAY_BACK else self._back(dead))
        if kept:
            return [_failed(f"{one.text()}; {kept}", BY_HAND)]
        return [Finding(check=CHECK, verdict=Verdict.PASS, seen=f"cleaned: {one.text()}")]

    async def _back(self, dead: DeadRun) -> str:
        """As a rollback goes: A alone first, B's end last. Returns why B had to stay, if it had to."""
        if dead.phase not in UNTOUCHED and dead.b is not None:
            reverted: list[Reverted] = await self._each(dead, EdgeActivities.serve_a_alone, "A alone again on")
            self._state.done(*(one.effect for one in reverted))
            kept = [f"{one.effect.where}: {one.kept_b}" for one in reverted if one.kept_b is not None]
            if kept:
                return "; ".join(kept)
            for activity, summary in (
                (EdgeActivities.settings_back, "settings and DNS back on"),
                (EdgeActivities.delete_b, "delete the leftover from"),
            ):
                effects: list[SideEffect] = await self._each(dead, activity, summary)
                self._state.done(*effects)
        discarded = await self._conduct.forward(
            CertificateActivities.discard, DiscardRequest(run=dead.run), "revoke the leftover, destroy its key"
        )
        self._state.done(discarded)
        return ""

    async def _finish(self, dead: DeadRun) -> str:
        """It was ended in RESTORE or REVOKE: what it had still to do. Returns why that cannot be done, if so."""
        if dead.a is None or dead.a_pem is None or dead.b is None:
            return "its history does not name A and B"
        self._state.done(*await self._each(dead, EdgeActivities.restore, "restore the settings of"))
        revoked = await self._conduct.forward(
            CertificateActivities.revoke_a,
            RevokeRequest(run=dead.run, sha256_a=dead.a.sha256, a_pem=dead.a_pem),
            f"revoke its A, serial {dead.a.serial}",
        )
        self._state.done(revoked.effect)
        if not dead.run.plan.certificate.also_used_by:
            self._state.done(*await self._each(dead, EdgeActivities.delete_a, "delete its A from"))
            destroyed = await self._conduct.forward(
                CertificateActivities.destroy_key_of_a,
                RevokeRequest(run=dead.run, sha256_a=dead.a.sha256, a_pem=dead.a_pem),
                "destroy the key of its A",
            )
            self._state.done(destroyed)
        return ""

    async def _each(self, dead: DeadRun, activity: Callable[..., Awaitable[Any]], summary: str) -> list[Any]:
        return await settle(
            *(
                self._conduct.forward(activity, _request(dead, baseline), f"{summary} {baseline.endpoint}")
                for baseline in dead.baselines
            )
        )


def _request(dead: DeadRun, baseline: EndpointBaseline) -> EndpointRequest:
    return EndpointRequest(
        run=dead.run,
        endpoint=baseline.endpoint,
        sha256_a=dead.a.sha256 if dead.a else "",
        sha256_b=dead.b.sha256 if dead.b else "",
        baseline=baseline,
    )


def reported(found: LeftoversFound) -> list[Finding]:
    """The findings when nothing is done about leftovers."""
    if found.problem is not None:
        return [Finding(check=CHECK, verdict=Verdict.ERROR, seen=found.problem, expected="an answer")]
    if not found.leftovers:
        return [Finding(check=CHECK, verdict=Verdict.PASS, seen="none", expected="none")]
    return [_report(one) for one in found.leftovers]


def _report(one: Leftover) -> Finding:
    return _failed(one.text(), CHOOSE if one.dead is not None else BY_HAND)


def _failed(seen: str, expected: str) -> Finding:
    return Finding(check=CHECK, verdict=Verdict.FAIL, seen=seen, expected=expected)
