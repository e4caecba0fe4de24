"""A notice to send, and its rotation's page."""

from __future__ import annotations

from datetime import UTC, datetime

from adapters.notify.base import Notice, Severity

NOTICE = Notice(
    id="rotation-eu/breach/1",
    severity=Severity.CRITICAL,
    kind="breach",
    rotation="rotation-eu",
    phase="SOAK",
    trunks=("eu-1.example.com", "us-1.example.com"),
    summary="eu-1: 91.20 % of handshakes succeeded – below 98 %",
    details={"unknown_ca": "44", "attempts": "500"},
    action="nothing: the rotation turns back",
    sent_at=datetime(2026, 11, 23, 18, 40, tzinfo=UTC),
)
LINK = "https://temporal.example.com/namespaces/default/workflows/rotation-eu/run"
