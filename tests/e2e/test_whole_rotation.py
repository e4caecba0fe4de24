"""The whole rotation, end to end on real parts: what it leaves behind, what it shows, what it never shows."""

from __future__ import annotations

import logging

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from domain.evidence import verify
from domain.gates import Verdict
from domain.phases import FORWARD, Phase
from tests.e2e.stage import Stage

PEM_MARKERS = ("PRIVATE KEY", "UFJJVkFURSBLRVk")
"""As text, and the same words in base64."""


async def test_one_certificate_is_rotated_on_two_trunks_through_all_ten_steps(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for chatty in ("httpcore", "asyncio"):
        caplog.set_level(logging.INFO, chatty)
    sha256_a = stage.lab.facts["certificate_a"]
    rotation = await stage.start()
    summary = await rotation.completes()
    status = await rotation.status()

    assert summary.phase is Phase.COMPLETED
    assert [time.phase for time in status.phases] == list(FORWARD)
    assert status.a is not None
    assert status.b is not None
    assert status.a.sha256 == sha256_a
    assert status.a_revoked

    # the gates rest on figures, and what this version does not check is shown as such
    for gate in ("preflight", "issue", "readiness", "soak", "verify", "adopt", "drain"):
        result = next(g for g in status.gates if g.gate == gate)
        assert result.verdict is Verdict.PASS, result
        assert result.findings
    assert "clock drift (NTP)" in status.not_checked

    # what the lab saw
    final = stage.lab.post("/lab/settle")
    assert final["violations"] == []
    for name, trunk in final["trunks"].items():
        assert trunk["pool"] == [status.b.sha256], name
        assert trunk["calls"]["lost"] == 0, trunk
        assert trunk["calls"]["placed"] == trunk["calls"]["completed"] > 0
    inbox = stage.lab.get("/lab/inbox")
    kinds = [notice["kind"] for notice in inbox["notices"]]
    assert kinds == ["flush_ocsp_and_pause_resumption", "resume_resumption"]

    # one certificate, one upload a platform, B's key still in custody, A gone from the platforms
    for endpoint in stage.plan().endpoints:
        edge = stage.adapters.edge(endpoint.platform)
        assert await edge.find_certificate(sha256_a) is None
        assert await edge.find_certificate(status.b.sha256) is not None
        trunk = await edge.read_trunk(endpoint.trunk)
        assert trunk.pool == (status.b.sha256,)
        assert trunk.settings.retransmission_timeout_s is None

    evidence = await rotation.evidence()
    assert verify(evidence.entries) is None
    assert evidence.head == summary.evidence_head

    # no private key anywhere: history as stored, history as decoded, log, evidence
    for text in (await rotation.history_json(), caplog.text, evidence.model_dump_json(), status.model_dump_json()):
        assert not any(marker in text for marker in PEM_MARKERS)
    history = await rotation.handle.fetch_history()
    decoded = [await stage.client.data_converter.decode([p]) for p in _payloads(history)]
    assert decoded
    assert not any(marker in repr(decoded) for marker in PEM_MARKERS)
    assert len(history.events) <= 450
    failed = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
    assert not failed

    description = await rotation.handle.describe()
    assert description.status is WorkflowExecutionStatus.COMPLETED


def _payloads(history: object) -> list[object]:
    """Every payload of the history, wherever it stands."""
    found: list[object] = []

    def walk(message: object) -> None:
        for descriptor, value in message.ListFields():  # type: ignore[attr-defined]
            if descriptor.message_type is None:
                continue
            if descriptor.message_type.GetOptions().map_entry:
                values = [v for v in value.values() if hasattr(v, "ListFields")]
            elif hasattr(value, "ListFields"):
                values = [value]
            else:
                values = list(value)
            for item in values:
                if item.DESCRIPTOR.full_name == "temporal.api.common.v1.Payload":
                    if item.metadata.get("encoding") == b"binary/encrypted":
                        found.append(item)
                else:
                    walk(item)

    for event in history.events:  # type: ignore[attr-defined]
        walk(event)
    return found
