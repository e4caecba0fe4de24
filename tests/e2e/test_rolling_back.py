"""Turning back: by signal from every phase that allows it, and never shown as anything but failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment

from activities.baseline import EndpointBaseline, EndpointRequest
from activities.edge import EdgeActivities
from adapters.edges.base import TrunkChange
from domain.phases import REVERSIBLE, Phase
from domain.rotation import Run
from tests.e2e.stage import Rotation, Stage
from workflows.attributes import PHASE

IN_ORDER = [phase for phase in Phase if phase in REVERSIBLE]


async def assert_a_alone_and_b_gone(stage: Stage, rotation: Rotation) -> None:
    """The end state of every rollback: A alone as found, B nowhere, its key destroyed, no way shown as success."""
    status = await rotation.status()
    sha256_a = stage.lab.facts["certificate_a"]
    assert status.phase is Phase.ROLLED_BACK
    assert status.rollback is not None
    assert status.rollback.a_alone_seconds is not None
    assert not status.a_revoked
    assert status.failure is not None
    for endpoint in stage.plan().endpoints:
        edge = stage.adapters.edge(endpoint.platform)
        trunk = await edge.read_trunk(endpoint.trunk)
        assert trunk.pool == (sha256_a,)
        assert trunk.canary is None or trunk.canary == sha256_a
        assert trunk.settings.retransmission_timeout_s is None
        if status.b is not None:
            assert await edge.find_certificate(status.b.sha256) is None
    spec = stage.plan().certificate
    assert await stage.adapters.custodian(spec.custody).chain(status.run) is None
    assert await stage.adapters.custodian(spec.custody).public_key_sha256(status.run) is None
    for endpoint in stage.plan().endpoints:
        if endpoint.srv is not None:
            records = await stage.adapters.zone(endpoint.srv.dns).read(endpoint.srv.name)
            priority = {record.target: record.priority for record in records.records}
            assert priority[endpoint.srv.target_a] < priority[endpoint.srv.target_b]
    description = await rotation.handle.describe()
    assert description.status is WorkflowExecutionStatus.FAILED
    assert description.typed_search_attributes.get(PHASE) == "ROLLED_BACK"


async def test_a_rollback_signal_turns_back_from_every_phase_that_allows_it(stage: Stage) -> None:
    """One lab, one rotation after another: each leaves the world as it was, so that the next can start."""
    changes = (("prefer = false", "prefer = true"), ("remove = false", "remove = true"))
    for phase in IN_ORDER:
        rotation = await stage.start(stage.plan(*changes, name=f"from-{phase.lower().replace('_', '-')}"))
        await _drive_to(rotation, phase)
        await rotation.handle.signal("rollback", {"by": "ann", "reason": f"test in {phase}"})
        error = await rotation.fails()
        assert error.type == "RolledBack", (phase, error)
        assert "ann" in error.message
        await assert_a_alone_and_b_gone(stage, rotation)
    assert stage.lab.get("/lab/state")["violations"] == []


async def _drive_to(rotation: Rotation, phase: Phase) -> None:
    """Waits for the phase; approves on the way where the phase lies behind an approval."""
    for gate, behind in (("prefer", Phase.APPROVE_PREFER), ("remove", Phase.APPROVE_REMOVE)):
        if IN_ORDER.index(phase) > IN_ORDER.index(behind):
            await rotation.shows(lambda s, gate=gate: s.waiting and s.waiting.gate == gate, f"approval {gate}")
            await rotation.handle.signal("approve", {"gate": gate, "by": "ann"})
    await rotation.reaches(phase.value)


async def test_where_a_can_serve_no_more_b_stays_and_people_are_told_why(stage: Stage) -> None:
    """A rotation is held in its overlap; the activity that goes back is asked by a clock after A's expiry."""
    rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "10m"')))
    status = await rotation.reaches("OVERLAP")
    assert status.a is not None
    assert status.b is not None
    endpoint = stage.plan().endpoints[0]
    edge = stage.adapters.edge(endpoint.platform)
    both = await edge.read_trunk(endpoint.trunk)
    assert both.pool == (status.b.sha256, status.a.sha256)
    request = EndpointRequest(
        run=Run(plan=stage.plan(), rotation=status.rotation, key=status.run),
        endpoint=endpoint.name,
        sha256_a=status.a.sha256,
        sha256_b=status.b.sha256,
        baseline=EndpointBaseline(
            endpoint=endpoint.name,
            physical="",
            trunk=both.model_copy(update={"pool": (status.a.sha256,), "canary": None}),
            a_not_after=status.a.not_after,
        ),
    )
    late = EdgeActivities(stage.adapters, clock=lambda: datetime.now(UTC) + timedelta(days=400))
    reverted = await ActivityEnvironment().run(late.serve_a_alone, request)
    assert reverted.kept_b is not None
    assert "A expired" in reverted.kept_b
    assert (await edge.read_trunk(endpoint.trunk)).pool == both.pool

    in_time = EdgeActivities(stage.adapters)
    assert (await ActivityEnvironment().run(in_time.serve_a_alone, request)).kept_b is None
    assert (await edge.read_trunk(endpoint.trunk)).pool == (status.a.sha256,)
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "end of the test"})
    assert (await rotation.fails()).type == "RolledBack"
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_a_second_certificate_in_a_pool_is_refused_before_anything_is_made(stage: Stage) -> None:
    """One that bears no run's key is somebody else's: nobody but its owner may take it out."""
    endpoint, spec = stage.plan().endpoints[0], stage.plan().certificate
    edge, custodian = stage.adapters.edge(endpoint.platform), stage.adapters.custodian(spec.custody)
    names = {"common_name": spec.common_name, "dns_names": spec.dns_names, "ip_addresses": spec.ip_addresses}
    csr = await custodian.csr("the-operators-own", key_type=spec.key_type, **names)
    chain = await stage.adapters.authority(spec.ca).sign(csr, lifetime=None, **names)
    key = await custodian.private_key("the-operators-own")
    stored = await edge.upload("the operator's own", chain, key)
    before = await edge.read_trunk(endpoint.trunk)
    await edge.update_trunk(endpoint.trunk, TrunkChange(pool=(*before.pool, stored.sha256)))

    rotation = await stage.start()
    error = await rotation.fails()
    assert error.type == "Aborted"
    assert "A alone" in error.message
    assert (await rotation.status()).effects == ()
    assert (await edge.read_trunk(endpoint.trunk)).pool == (*before.pool, stored.sha256)

    await edge.update_trunk(endpoint.trunk, TrunkChange(pool=before.pool))
    await edge.delete_certificate(stored.sha256)
    await custodian.destroy("the-operators-own")
