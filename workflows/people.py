"""Who is told what: alerts to operations, notices to the carrier. Nothing waits for a delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.carrier import CarrierActivities, NoticeRequest
    from adapters.notify.base import Notice, Severity
    from domain.texts import readable
    from workflows.messages import AlertStatus

from workflows.pace import ACT_TIMEOUT, EVERY_SECOND
from workflows.state import RotationState

NOTICE_TIMEOUT = timedelta(minutes=10)
NOTICES_AT_THE_END = timedelta(seconds=30)


class People:
    """Everybody whom the plan names under `[notifications]`. Whether a notice arrived is in the status."""

    def __init__(self, state: RotationState) -> None:
        self._state = state
        self._notices: dict[asyncio.Task[None], None] = {}  # in order: a set of tasks has another one at each replay
        self._count = 0
        self._out_of_reach: set[str] = set()
        self._closing = False

    def alert(self, kind: str, severity: Severity, summary: str, action: str = "", *, but: Container[str] = ()) -> None:
        """Tells all desks of operations `but` those."""
        for profile in self._state.plan.notifications.desks:
            if profile not in but:
                self._tell(profile, kind, severity, summary, action)

    def tell_carrier(self, kind: str, summary: str, action: str) -> None:
        """Tells the carrier's operations, if the plan names them."""
        if self._state.plan.notifications.carrier is not None:
            self._tell(self._state.plan.notifications.carrier, kind, Severity.INFO, summary, action)

    async def settled(self) -> None:
        """Waits until every notice was delivered, for a short while: an unreachable desk does not keep it open."""
        if self._notices:
            _, undelivered = await workflow.wait(list(self._notices), timeout=NOTICES_AT_THE_END.total_seconds())
            self._closing = True
            for notice in undelivered:
                notice.cancel()

    def _tell(self, profile: str, kind: str, severity: Severity, summary: str, action: str) -> None:
        self._count += 1
        state = self._state
        details = {name: c.sha256 for name, c in (("sha256_a", state.a), ("sha256_b", state.b)) if c is not None}
        notice = Notice(
            id=f"{state.run.key}-{self._count}",
            severity=severity,
            kind=kind,
            rotation=state.run.rotation,
            phase=state.phase.value,
            trunks=tuple(endpoint.fqdn for endpoint in state.plan.endpoints),
            summary=readable(summary),
            details=details,
            action=readable(action),
            sent_at=workflow.now(),
        )
        state.repeated("notice", {"id": notice.id, "to": profile, "kind": kind, "summary": notice.summary})
        number = state.alerts.append(AlertStatus(at=notice.sent_at, to=profile, kind=kind, summary=notice.summary))
        task = asyncio.create_task(self._deliver(profile, notice, number))
        self._notices[task] = None
        task.add_done_callback(lambda done: self._notices.pop(done, None))

    async def _deliver(self, profile: str, notice: Notice, number: int) -> None:
        try:
            await workflow.execute_activity_method(
                CarrierActivities.notify,
                NoticeRequest(profile=profile, notice=notice),
                start_to_close_timeout=ACT_TIMEOUT,
                schedule_to_close_timeout=NOTICE_TIMEOUT,
                retry_policy=EVERY_SECOND,
                summary=f"{notice.kind} → {profile}",
            )
            delivered = True
        except ActivityError:
            delivered = False
        alert = self._state.alerts.get(number)
        if alert is not None:
            self._state.alerts.replace(number, alert.model_copy(update={"delivered": delivered}))
        if delivered:
            self._out_of_reach.discard(profile)
        else:
            self._out_of_reach_now(profile, notice.kind)

    def _out_of_reach_now(self, profile: str, kind: str) -> None:
        """The other desks hear of it once, until something is delivered there again."""
        if self._closing or profile in self._out_of_reach:
            return
        self._out_of_reach.add(profile)
        text = f"`{kind}` could not be delivered to [notify.{profile}] within {NOTICE_TIMEOUT}"
        self.alert("notice_undelivered", Severity.WARNING, text, "see to that desk", but=self._out_of_reach)
