"""Who holds a lease: asked of Temporal, because a lease is a workflow (DESIGN.md, "Leases")."""

from __future__ import annotations

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from domain.handshakes import Record
from domain.rotation import lease_id


class LeaseQuestion(Record):
    """Who holds the lease on `what`? `rotation` is the workflow id of the one that asks."""

    what: str
    rotation: str


class LeaseHolder(Record):
    """The workflow id of the holder and its phase; None when the lease is free now, `freed` says why."""

    holder: str | None = None
    phase: str | None = None
    freed: str = ""

    def text(self) -> str:
        """For people, one line."""
        if self.holder is None:
            return self.freed or "nobody"
        return f"{self.holder} (in {self.phase})" if self.phase else self.holder


class LeaseActivities:
    """Looks at leases. A reset leaves them without a parent that could end them; such a lease is freed here."""

    @activity.defn
    async def lease_holder(self, question: LeaseQuestion) -> LeaseHolder:
        """The rotation that holds the lease. One whose rotation does not run any more, or is ours, is freed.

        A rotation that was reset goes on as another run of the same workflow id: it holds what its first run took.
        """
        client = activity.client()
        lease = await _described(client, lease_id(question.what))
        if lease is None or lease.close_time is not None:
            return LeaseHolder(freed="it was freed meanwhile")
        parent = await _described(client, lease.parent_id) if lease.parent_id else None
        if parent is not None and parent.close_time is None and parent.id != question.rotation:
            return LeaseHolder(holder=parent.id, phase=_phase(parent))
        await _end(client, lease)
        return LeaseHolder(freed=f"left by {lease.parent_id or 'nobody'}, which does not run any more: freed")

    @activity.defn
    async def lease_looked_at(self, question: LeaseQuestion) -> LeaseHolder:
        """Like `lease_holder`, and frees nothing: for a dry run."""
        client = activity.client()
        lease = await _described(client, lease_id(question.what))
        if lease is None or lease.close_time is not None or lease.parent_id is None:
            return LeaseHolder()
        parent = await _described(client, lease.parent_id)
        if parent is None or parent.close_time is not None:
            return LeaseHolder()
        return LeaseHolder(holder=parent.id, phase=_phase(parent))


async def _described(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """The latest run of a workflow id; None when there is none."""
    try:
        return await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None


async def _end(client: Client, lease: WorkflowExecutionDescription) -> None:
    """Terminates exactly this run of the lease; another one may have done so already."""
    try:
        await client.get_workflow_handle(lease.id, run_id=lease.run_id).terminate("its rotation does not run any more")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


def _phase(rotation: WorkflowExecutionDescription) -> str | None:
    found = next((pair.value for pair in rotation.typed_search_attributes if pair.key.name == "RotationPhase"), None)
    return None if found is None else str(found)
