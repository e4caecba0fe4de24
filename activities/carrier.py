"""Notices to the carrier's operations and alerts to ours."""

from __future__ import annotations

from temporalio import activity

from adapters.notify.base import Notice
from adapters.registry import Adapters
from domain.handshakes import Record


class NoticeRequest(Record):
    """A notice and the settings profile that takes it."""

    profile: str
    notice: Notice


class CarrierActivities:
    """Tells people. A notice that cannot be delivered never holds a rollback up: the workflow does not wait for it."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters

    @activity.defn
    async def notify(self, request: NoticeRequest) -> None:
        """Delivers one notice with the rotation's page; its id makes a repetition harmless."""
        info = activity.info()
        link = None
        if info.workflow_id is not None and info.workflow_run_id is not None:
            link = self._adapters.page_of(info.namespace, info.workflow_id, info.workflow_run_id)
        await self._adapters.notifier(request.profile).send(request.notice, link)
