"""A watcher that cannot see: the advance freezes, an alert says why, nothing is lost, and it goes on from where it was.

Every outage lies in an approval wait: the rotation has nothing else to do, so that each event of its history is the
outage's. The approval is given while it lasts, and moves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from domain.flapping import TIMES_BLIND
from domain.gates import Verdict
from domain.guard import GuardVerdict
from domain.handshakes import Reporter, Sample, Tally
from domain.phases import Phase
from domain.plan import Direction
from domain.rotation import Cause
from tests.e2e.breakable_path import BreakablePath, breakable_path
from tests.e2e.stage import LabProcess, Rotation, Stage, staged, until
from tests.e2e.tampering import Call, Rule, TamperedAdapters
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone
from workflows.messages import RotationStatus

LOOKS = 3
"""Looks that an outage lasts at least."""

APPROVED = ("prefer = false", "prefer = true")

Outage = Callable[[Stage], AbstractAsyncContextManager[str]]
"""Makes the guard blind while the block runs, and gives what its alert has to say."""


# -- outages -----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def refused_credentials(stage: Stage) -> AsyncIterator[str]:
    """The token ran out, and the secret in the file is not the one any more."""
    secret = stage.lab.directory / "cxone.secret"
    good = secret.read_text()
    secret.write_text("revoked by the security team")
    stage.lab.post("/lab/expire-tokens")
    try:
        yield "[platforms.cxone-lab]"
    finally:
        secret.write_text(good)


@contextlib.asynccontextmanager
async def frozen_counters(stage: Stage) -> AsyncIterator[str]:
    """The source answers, and says for ever what it said last."""
    stage.lab.post("/lab/metrics", {"trunk": "genesys", "frozen": True})
    try:
        yield "s old"
    finally:
        stage.lab.post("/lab/metrics", {"trunk": "genesys", "frozen": False})


def _path(stage: Stage) -> BreakablePath:
    assert isinstance(stage, StageWithPath)
    return stage.path


@contextlib.asynccontextmanager
async def unreachable_source(stage: Stage) -> AsyncIterator[str]:
    """Nobody listens where the platform was."""
    path = _path(stage)
    await path.close()
    try:
        yield "[platforms.genesys-lab]"
    finally:
        await path.open()


@contextlib.asynccontextmanager
async def hanging_source(stage: Stage) -> AsyncIterator[str]:
    """The platform takes every request and never answers."""
    path = _path(stage)
    path.swallow()
    try:
        yield "genesys"
    finally:
        await path.open()


@contextlib.asynccontextmanager
async def bug_in_the_watcher(stage: Stage) -> AsyncIterator[str]:
    """Something that nobody foresaw is raised in the middle of a look."""

    async def bug(call: Call) -> Any:
        return 1 // 0

    with _tampered(stage).instead("metrics.samples", bug):
        yield "unexpected ZeroDivisionError"


@contextlib.asynccontextmanager
async def look_that_nothing_ends(stage: Stage) -> AsyncIterator[str]:
    """A look that does not end at its deadline either: only Temporal's start-to-close notices."""
    over = asyncio.Event()

    async def deaf(call: Call) -> Any:
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return await call()

    with _tampered(stage).instead("metrics.samples", deaf):
        try:
            yield "the guard itself failed"
        finally:
            over.set()


def _tampered(stage: Stage) -> TamperedAdapters:
    assert isinstance(stage.adapters, TamperedAdapters)
    return stage.adapters


class StageWithPath(Stage):
    """A stage on which the way to one platform can be broken."""

    path: BreakablePath


@pytest.fixture
async def stage(temporal: str, lab: LabProcess, tmp_path: Path) -> AsyncIterator[Stage]:
    """A worker whose way to the Genesys platform, and whose every adapter, can be tampered with."""
    text = (lab.directory / "settings.toml").read_text()
    url = text.split("[platforms.genesys-lab]")[1].split('base_url = "')[1].split('"')[0]
    async with breakable_path(url) as path:
        settings = tmp_path / "settings.toml"
        settings.write_text(text.replace(url, path.url))
        async with staged(temporal, lab, settings, build=TamperedAdapters) as ready:
            ready.__class__ = StageWithPath
            assert isinstance(ready, StageWithPath)
            ready.path = path
            yield ready


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outages",
    [
        (refused_credentials, unreachable_source, hanging_source),
        (frozen_counters, bug_in_the_watcher, look_that_nothing_ends),
    ],
    ids=["credentials refused, unreachable, hanging", "frozen counters, a bug, a look that nothing ends"],
)
@pytest.mark.durability
async def test_a_guard_that_cannot_see_freezes_the_advance_says_why_and_the_rotation_completes_once_it_sees(
    stage: Stage, outages: tuple[Outage, ...]
) -> None:
    assert len(outages) <= TIMES_BLIND  # one more, and the guard is not believed at once
    rotation = await stage.start(stage.plan(APPROVED))
    await _waits_for_the_approval(rotation)
    for outage in outages:
        async with outage(stage) as why:
            status = await _frozen(rotation, why)
            told = [alert for alert in status.alerts if alert.kind == "blind"][-1]
            assert why in told.summary
            assert await _alert_arrives(stage, rotation, told.summary)
            await _costs_no_event(rotation)
            if outage is outages[-1]:
                await rotation.handle.signal("approve", {"gate": "prefer", "by": "ann"})
                await rotation.shows(
                    lambda s: s.waiting and s.waiting.what.startswith("the guard to see again"), "the approved wait"
                )
                await _costs_no_event(rotation)
                assert (await rotation.status()).phase is Phase.APPROVE_PREFER
        await rotation.shows(lambda s: s.frozen is None, f"the guard to see again after {why}")
    await rotation.completes()
    status = await rotation.status()
    assert [alert.kind for alert in status.alerts].count("blind") == len(outages)
    assert [alert.kind for alert in status.alerts].count("watching_again") == len(outages)
    assert stage.lab.post("/lab/settle")["violations"] == []


async def test_blindness_on_one_endpoint_hides_no_breach_on_the_other(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(APPROVED))
    await _waits_for_the_approval(rotation)
    async with unreachable_source(stage) as why:
        await _frozen(rotation, why)
        with _tampered(stage).instead("metrics.samples", _breach_on("cxone")):
            status = await rotation.shows(lambda s: s.rollback, "the rollback")
    assert status.rollback is not None
    assert status.rollback.turn_back.cause is Cause.BREACH
    assert status.rollback.turn_back.reason.startswith("cxone: 50 handshakes in a row")
    assert (await rotation.fails()).type == "RolledBack"
    await assert_a_alone_and_b_gone(stage, rotation)


@pytest.mark.parametrize("how", ["rollback", "cancel"])
async def test_a_blind_rotation_still_turns_back_when_a_person_asks(stage: Stage, how: str) -> None:
    rotation = await stage.start(stage.plan(APPROVED))
    await _waits_for_the_approval(rotation)
    async with frozen_counters(stage) as why:
        await _frozen(rotation, why)
        if how == "rollback":
            await rotation.handle.signal("rollback", {"by": "ann", "reason": "I cannot see either"})
        else:
            await rotation.handle.cancel()
        assert (await rotation.fails()).type == "RolledBack"
        await assert_a_alone_and_b_gone(stage, rotation)
    assert stage.lab.get("/lab/state")["violations"] == []


@pytest.mark.durability
async def test_a_guard_that_flaps_is_believed_three_times_an_hour_and_then_stays_frozen_without_a_storm(
    stage: Stage,
) -> None:
    rotation = await stage.start(stage.plan(APPROVED))
    await _waits_for_the_approval(rotation)
    for _ in range(TIMES_BLIND):
        async with bug_in_the_watcher(stage) as why:
            await _frozen(rotation, why)
        await rotation.shows(lambda s: s.frozen is None, "the guard to be believed")
    async with bug_in_the_watcher(stage) as why:
        await _frozen(rotation, why)
    await rotation.shows(lambda s: all(a.delivered for a in s.alerts), "all alerts delivered")
    before = await _events(rotation)
    for _ in range(3):
        await _looks_again(rotation, LOOKS)
        async with bug_in_the_watcher(stage):
            await _looks_again(rotation, LOOKS)
    assert await _events(rotation) == before
    status = await rotation.status()
    assert status.frozen is not None
    assert "not believed before" in status.frozen
    assert [alert.kind for alert in status.alerts].count("blind") == TIMES_BLIND + 1
    # a breach is never kept back
    with _tampered(stage).instead("metrics.samples", _breach_on("genesys")):
        error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "breach" in error.message
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_a_gate_that_cannot_see_never_passes(stage: Stage) -> None:
    """VERIFY needs the carrier's figures; the guard of a busy trunk does not, so that the gate alone is blind."""

    async def bug(call: Call) -> Any:
        return 1 // 0

    rotation = await stage.start()
    await rotation.reaches("SOAK")  # PREFLIGHT asks the carrier, too
    with _tampered(stage).instead("carrier.reading", bug):
        await rotation.reaches("VERIFY")
        status = await rotation.shows(
            lambda s: any(a.kind == "blind" and "gate verify" in a.summary for a in s.alerts), "the gate to say so"
        )
        assert "unexpected ZeroDivisionError" in status.alerts[-1].summary
        await _looks_again(rotation, LOOKS, activity="verify")
        status = await rotation.status()
        assert status.phase is Phase.VERIFY
        assert not any(gate.gate == "verify" and gate.verdict is Verdict.PASS for gate in status.gates)
    await rotation.reaches("ADOPT")
    await rotation.handle.signal("rollback", {"by": "ann"})
    assert (await rotation.fails()).type == "RolledBack"


# -- parts -------------------------------------------------------------------------------------------------------------


async def _waits_for_the_approval(rotation: Rotation) -> None:
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    await rotation.shows(lambda s: s.frozen is None and all(a.delivered for a in s.alerts), "all alerts delivered")


async def _frozen(rotation: Rotation, why: str) -> RotationStatus:
    status = await rotation.shows(
        lambda s: s.guard is not None and s.guard.verdict is GuardVerdict.BLIND and why in s.guard.text,
        f"the guard to say that it is blind: {why}",
    )
    assert status.frozen is not None
    assert why in status.frozen
    return status


def _breach_on(endpoint: str) -> Rule:
    """The platform's figures, with a peer on one endpoint that refuses B again and again."""

    async def refused(call: Call) -> Any:
        reading = await call()
        if reading.endpoint != endpoint:
            return reading
        tally = Tally(attempts=50, successes=0, failures={"unknown_ca": 50})
        sample = Sample(
            endpoint=endpoint,
            reporter=Reporter.PLATFORM,
            direction=Direction.INBOUND,
            sha256="b" * 64,
            handshakes=tally,
        )
        samples = (*reading.samples, sample)
        return reading.model_copy(update={"samples": samples, "told": len(samples)})

    return refused


async def _alert_arrives(stage: Stage, rotation: Rotation, summary: str) -> bool:
    async def arrived() -> bool:
        alerts = stage.lab.get("/lab/inbox")["alerts"]
        return any(a["rotation"] == rotation.handle.id and a["summary"] == summary for a in alerts)

    await until(arrived, f"the alert {summary!r}")
    return True


async def _looks_again(rotation: Rotation, looks: int, activity: str = "guard") -> None:
    """Waits until the pending watcher has looked so often from now on."""

    async def attempt() -> int:
        description = await rotation.handle.describe()
        pending = description.raw_description.pending_activities
        return max((p.attempt for p in pending if p.activity_type.name == activity), default=0)

    first = await attempt()

    async def enough() -> bool:
        return await attempt() >= first + looks

    await until(enough, f"{looks} looks of {activity}")


async def _costs_no_event(rotation: Rotation) -> None:
    """Once everybody has been told, an outage adds nothing to the history, however long it lasts."""
    await rotation.shows(lambda s: all(a.delivered for a in s.alerts), "all alerts delivered")
    before = await _events(rotation)
    await _looks_again(rotation, LOOKS)
    assert await _events(rotation) == before


async def _events(rotation: Rotation) -> int:
    return (await rotation.handle.describe()).history_length
