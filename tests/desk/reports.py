"""Reports of a rotation at chosen moments, without a server."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, RenderableType

from desk.report import Look, Report, Row
from domain.certificates import CertificateFacts
from domain.gates import Finding, GateResult, Verdict
from domain.guard import GuardVerdict
from domain.phases import FORWARD, Phase
from workflows.messages import EndpointStatus, GuardStatus, PhaseTime, RotationStatus

START = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment of the rotation."""
    return START + timedelta(seconds=seconds)


def certificate(name: str) -> CertificateFacts:
    """Public facts of A or B."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return CertificateFacts(
        sha256=digest,
        spki_sha256=digest,
        modulus_sha256=digest,
        serial=digest[:16],
        common_name="trunk.example.com",
        issuer="CN=Lab SIP CA",
        dns_names=("trunk.example.com",),
        ip_addresses=(),
        uris=(),
        extended_key_usage=("serverAuth",),
        key_type="rsa-2048",
        signature_hash="sha256",
        not_before=at(-86400),
        not_after=at(86400 * 90),
    )


def until(phase: Phase, *, each: float = 10.0) -> tuple[PhaseTime, ...]:
    """Every phase up to this one, `each` seconds apart."""
    passed = FORWARD[: FORWARD.index(phase) + 1]
    return tuple(PhaseTime(phase=one, entered_at=at(n * each)) for n, one in enumerate(passed))


def status(phase: Phase = Phase.SOAK, **changes: Any) -> RotationStatus:
    """A rotation that has come to `phase`."""
    fields: dict[str, Any] = {
        "rotation": "rotation-east-2026",
        "plan": "east-2026",
        "plan_sha256": "0" * 64,
        "started_by": "ada",
        "run": "0123456789ab",
        "phase": phase,
        "phases": until(phase) if phase in FORWARD else (),
        "a": certificate("A"),
        "b": certificate("B"),
        "endpoints": (
            EndpointStatus(
                name="east", platform="genesys-eu", trunk="edge-1/trunk-1", role="server", last="bind: A, B"
            ),
        ),
        "guard": GuardStatus(verdict=GuardVerdict.HEALTHY, text="612 of 612", at=at(30)),
        "gates": (passed_gate(),),
        "not_checked": ("trust stores",),
    }
    return RotationStatus(**{**fields, **changes})


def passed_gate() -> GateResult:
    """SOAK, passed."""
    finding = Finding(
        check="handshakes, inbound, A and B",
        verdict=Verdict.PASS,
        seen="612 of 613 (99.83 %): 1 × timeout",
        expected="≥ 99.50 % of at least 600",
        endpoint="east",
        value=612 / 613,
        threshold=0.995,
    )
    return GateResult(gate="soak", verdict=Verdict.PASS, findings=(finding,), decided_at=at(60))


def report(answered: RotationStatus | None, *, execution: str = "RUNNING", **changes: Any) -> Report:
    """What the desk knows of it."""
    row = Row(
        id="rotation-east-2026",
        run_id="0199-run",
        execution=execution,
        phase=answered.phase if answered else Phase.SOAK,
        verdict="PASS",
        platforms=("genesys-eu",),
        trunks=("trunk.example.com",),
        expiry=at(86400 * 90),
        started_at=START,
        closed_at=None if execution == "RUNNING" else at(240),
    )
    return Report(**{"row": row, "history_events": 120, "status": answered, **changes})


def look(activity: str, said: str) -> Look:
    """A watcher's last words."""
    return Look(activity=activity, attempt=7, said=said)


def rendered(view: RenderableType, *, width: int = 100, **console: Any) -> str:
    """The view as text."""
    file = io.StringIO()
    Console(file=file, width=width, **console).print(view, highlight=False)
    return file.getvalue()
