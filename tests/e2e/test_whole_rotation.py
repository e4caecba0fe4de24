"""The whole rotation, end to end on real parts: what it leaves behind, what it shows, what it never shows."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from domain.evidence import verify
from domain.gates import Verdict
from domain.phases import FORWARD, Phase
from domain.plan import Node
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
    assert "carrier cipher suites" in status.not_checked
    clocks = [f for gate in status.gates for f in gate.findings if f.check.startswith("clock")]
    assert {f.check for f in clocks} == {"clock of the worker", "clock of the platform", "clock of the carrier"}
    assert {f.verdict for f in clocks} == {Verdict.PASS}

    # what the lab saw
    final = stage.lab.post("/lab/settle")
    assert final["violations"] == []
    for name, trunk in final["trunks"].items():
        assert trunk["pool"] == [status.b.sha256], name
        assert trunk["calls"]["placed"] == trunk["calls"]["completed"] > 0, trunk["last_losses"]
    inbox = stage.lab.get("/lab/inbox")
    kinds = [notice["kind"] for notice in inbox["notices"] if notice["rotation"] == rotation.handle.id]
    assert kinds == ["flush_ocsp_and_pause_resumption", "resume_resumption"]
    told = [one for one in (*inbox["notices"], *inbox["alerts"]) if one["rotation"] == rotation.handle.id]
    run_id = (await rotation.handle.describe()).run_id
    assert {one["link"] for one in told} == {stage.settings.page_of("default", rotation.handle.id, run_id or "")}

    # one certificate, one upload a platform, B's key still in custody, A gone from the platforms
    for endpoint in stage.plan().endpoints:
        edge = stage.adapters.edge(endpoint.platform)
        assert await edge.find_certificate(sha256_a) is None
        assert await edge.find_certificate(status.b.sha256) is not None
        trunk = await edge.read_trunk(endpoint.trunk)
        assert trunk.pool == (status.b.sha256,)
        assert trunk.settings.retransmission_timeout_s is None

    # what an independent client sees is, byte for byte, the B that the status names
    for endpoint in stage.plan().endpoints:
        for node in endpoint.nodes:
            assert await _leaf_seen_by_openssl(stage, node, endpoint.fqdn) == status.b.sha256

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


async def _leaf_seen_by_openssl(stage: Stage, node: Node, fqdn: str) -> str:
    """SHA-256 of the leaf that `openssl s_client` is served."""
    client = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"{node.address}:{node.port}", "-servername", fqdn,
        "-cert", str(stage.settings.probe.client_certificate_file), "-key", str(stage.settings.probe.client_key_file),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    shown, _ = await client.communicate()
    pem = re.search(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", shown, re.DOTALL)
    assert pem is not None, shown
    return hashlib.sha256(x509.load_pem_x509_certificate(pem.group()).public_bytes(Encoding.DER)).hexdigest()


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
