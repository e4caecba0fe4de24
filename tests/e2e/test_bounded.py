"""What others send and say does not make a rotation grow: stray signals, megabytes of error, a megabyte of plan."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from domain.evidence import verify
from domain.phases import Phase
from tests.e2e.shouting import Shouting
from tests.e2e.stage import LabProcess, Rotation, Stage, staged, until
from tests.e2e.test_approvals import APPROVALS
from workflows.messages import Approval, Outcome
from workflows.rotation import CertificateRotation

STRAY = 10_000
"""As many as the server accepts for one workflow (`history.maximumSignalsPerExecution`)."""

LARGE, AT_ONCE = 100, 30
STATE_LIMIT = 256 * 1024
EVENT_LIMIT, HISTORY_LIMIT = 51_200, 50 * 1024 * 1024


def strays(chance: random.Random) -> list[tuple[str, Any]]:
    """Early, late, repeated, for unknown gates, malformed, misspelt, and some of 100 KB that do not compress."""
    kinds: Sequence[tuple[str, Any]] = (
        ("approve", {"gate": "remove", "by": "early"}),
        ("approve", {"gate": "soak", "by": "late"}),
        ("approve", {"gate": "perfer", "by": "typo"}),
        ("approve", {"gate": "prefer"}),
        ("approve", {"gate": "prefer", "by": "x" * 600}),
        ("rollback", "please"),
        ("rollback", {"by": ["no", "name"]}),
        ("resume", {"by": "hasty"}),
        ("pause", 7),
        ("aprove", {"gate": "prefer", "by": "misspelt"}),
    )
    large = [(chance.choice(("approve", "rollback", "aprove")), os.urandom(50_000).hex()) for _ in range(LARGE)]
    several = [*large, *(kinds[n % len(kinds)] for n in range(STRAY - LARGE))]
    chance.shuffle(several)
    return several


async def assert_small_and_readable(rotation: Rotation) -> None:
    status, evidence = await rotation.status(), await rotation.evidence()
    assert len(status.model_dump_json()) < STATE_LIMIT
    assert len(evidence.model_dump_json()) < STATE_LIMIT
    assert verify(evidence.entries) is None
    history = await rotation.handle.fetch_history()
    assert len(history.events) < EVENT_LIMIT
    assert sum(event.ByteSize() for event in history.events) < HISTORY_LIMIT


@pytest.mark.durability
@pytest.mark.alone
async def test_ten_thousand_stray_signals_neither_stop_a_rotation_nor_make_its_state_grow(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(*APPROVALS))
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    by_hand = (await Client.connect(stage.client.service_client.config.target_host)).get_workflow_handle(
        rotation.handle.id
    )
    slots = asyncio.Semaphore(AT_ONCE)

    async def send(number: int, name: str, payload: Any) -> None:
        async with slots:
            await (by_hand if number % 2 else rotation.handle).signal(name, payload)

    await asyncio.gather(*(send(number, *stray) for number, stray in enumerate(strays(random.Random(7)))))
    status = await rotation.shows(lambda s: len(s.decisions) + s.decisions_dropped == STRAY, "every signal counted")
    assert status.phase is Phase.APPROVE_PREFER
    assert status.decisions_dropped == STRAY - 50
    assert status.last_dropped is not None
    assert status.last_dropped.outcome != Outcome.ACCEPTED
    assert not any(decision.accepted for decision in status.decisions)
    assert {d.plaintext for d in status.decisions} == {True, False}
    assert await told(stage, rotation, "history_filling"), "people are told that the history fills up"
    await assert_small_and_readable(rotation)

    for gate in ("prefer", "remove"):  # the server takes no signal beyond 10 000; updates go on
        await rotation.shows(lambda s, gate=gate: s.waiting and s.waiting.gate == gate, f"the approval `{gate}`")
        approval = Approval(gate=gate, by="ann", reason="figures are fine")
        decision = await rotation.handle.execute_update(CertificateRotation.approve_gate, approval)
        assert decision.accepted
    await rotation.completes()
    status = await rotation.status()
    assert [(d.gate, d.by) for d in status.decisions if d.accepted] == [("prefer", "ann"), ("remove", "ann")]
    evidence = await rotation.evidence()
    assert any(e.kind == "left out" and e.data["messages without effect"] == STRAY - 50 for e in evidence.entries)
    await assert_small_and_readable(rotation)
    assert stage.lab.post("/lab/settle")["violations"] == []


# -- megabytes from a platform -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def behind_shouting(
    temporal: str, lab: LabProcess, directory: Path, platform: str
) -> AsyncIterator[tuple[Stage, Shouting]]:
    settings = directory / "settings.toml"
    async with Shouting(lab.facts[platform]).served() as shouting:
        text = (lab.directory / "settings.toml").read_text()
        assert f'"{lab.facts[platform]}"' in text
        settings.write_text(text.replace(f'"{lab.facts[platform]}"', f'"{shouting.url}"'))
        async with staged(temporal, lab, settings) as stage:
            yield stage, shouting


@pytest.mark.parametrize("platform", ["genesys", "cxone"])
async def test_a_platform_that_answers_500_with_5_mb_delays_a_rotation_and_is_told_in_a_readable_text(
    temporal: str, lab: LabProcess, tmp_path: Path, platform: str
) -> None:
    async with behind_shouting(temporal, lab, tmp_path, platform) as (stage, shouting):
        shouting.status = 500
        rotation = await stage.start()

        async def repeated() -> str | None:
            description = await rotation.handle.describe()
            for pending in description.raw_description.pending_activities:
                if pending.activity_type.name == "upload" and pending.HasField("last_failure"):
                    failure = await stage.client.data_converter.decode_failure(pending.last_failure)
                    return getattr(failure, "message", str(failure))
            return None

        text = await until(repeated, "the upload to be repeated")
        assert len(text) < 2000
        assert "it is all your fault [private key removed] fault fault" in text
        assert (await rotation.status()).phase is Phase.UPLOAD
        shouting.status = None
        await rotation.completes()
        await assert_small_and_readable(rotation)
        assert await size(rotation) < 1_000_000


@pytest.mark.parametrize("platform", ["genesys", "cxone"])
async def test_a_platform_that_answers_400_with_5_mb_turns_a_rotation_back_with_a_readable_reason(
    temporal: str, lab: LabProcess, tmp_path: Path, platform: str
) -> None:
    async with behind_shouting(temporal, lab, tmp_path, platform) as (stage, shouting):
        rotation = await stage.start(stage.plan(("prefer = false", "prefer = true")))
        await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
        shouting.status = 400
        await rotation.handle.signal("approve", {"gate": "prefer", "by": "ann"})
        if platform == "cxone":  # its preference is in DNS; the pool is written when A is taken out
            await rotation.reaches("REMOVE")

        async def refused() -> bool:
            return shouting.shouted > 0

        await until(refused, "a change to be refused")
        shouting.status = None
        error = await rotation.fails()
        assert error.type == "RolledBack"
        assert "the request is refused" in error.message
        assert "it is all your fault [private key removed] fault" in error.message
        assert len(error.message) < 2000
        status, evidence = await rotation.status(), await rotation.evidence()
        assert "secret" not in status.model_dump_json() + evidence.model_dump_json()
        await assert_small_and_readable(rotation)
        assert await size(rotation) < 1_000_000


# -- a megabyte of plan ------------------------------------------------------------------------------------------------


@pytest.mark.durability
async def test_a_rotation_with_twenty_thousand_peers_goes_as_far_as_its_peers_let_it_and_back(stage: Stage) -> None:
    (peer,) = stage.plan().endpoints[0].peers
    silent = [f"peer-{n:05}.branch-{n % 97:03}.carrier.example.com" for n in range(20_000)]
    plan = stage.plan((f'peers = ["{peer}"]', f"peers = {json.dumps([peer, *silent])}"))
    assert len(plan.model_dump_json()) > 1_000_000
    rotation = await stage.start(plan)
    status = await rotation.reaches("DRAIN", patience_s=120)

    async def looked() -> str | None:
        description = await rotation.handle.describe()
        for pending in description.raw_description.pending_activities:
            if pending.activity_type.name == "drain" and pending.HasField("last_failure"):
                failure = await stage.client.data_converter.decode_failure(pending.last_failure)
                return getattr(failure, "message", str(failure))
        return None

    text = await until(looked, "DRAIN to name who is missing")
    assert silent[0] in text
    assert "more" in text
    assert len(text) <= 2000
    await rotation.handle.signal("rollback", {"by": "ann"})
    assert (await rotation.fails()).type == "RolledBack"
    status = await rotation.status()
    assert status.rollback is not None
    assert status.rollback.a_alone_seconds is not None
    assert status.rollback.a_alone_seconds < 30
    await assert_small_and_readable(rotation)
    assert await size(rotation) < 20 * 1024 * 1024, "the plan travels with every activity"


@pytest.mark.durability
async def test_a_rotation_whose_certificate_has_fifty_thousand_other_users_completes(stage: Stage) -> None:
    users = [f"trunk-{n:06}-elsewhere" for n in range(50_000)]
    plan = stage.plan(('ca = "vault-lab"', f'ca = "vault-lab"\nalso_used_by = {json.dumps(users)}'))
    assert len(plan.model_dump_json()) > 1_000_000
    rotation = await stage.start(plan)
    summary = await rotation.completes()
    assert not summary.a_revoked, "handed over: others use it"
    await assert_small_and_readable(rotation)


async def size(rotation: Rotation) -> int:
    """Bytes of the history."""
    return sum(event.ByteSize() for event in (await rotation.handle.fetch_history()).events)


async def told(stage: Stage, rotation: Rotation, kind: str) -> bool:
    async def arrived() -> bool:
        alerts = stage.lab.get("/lab/inbox")["alerts"]
        return any(alert["kind"] == kind and alert["rotation"] == rotation.handle.id for alert in alerts)

    return bool(await until(arrived, f"the alert `{kind}`"))
