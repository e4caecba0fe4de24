"""The HAProxy adapter against a real HAProxy as it is shipped: every step of a rotation, there and back."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from adapters.edges.base import CanaryPath, TrunkChange, TrunkSettings
from adapters.fence import acting_within
from domain.errors import CapabilityMissing, ConcurrentEdit, NotAsWritten, RequestRefused, TooLate, Unreachable
from tests.adapters.trunk_leaves import expired_leaf, key_lines
from tests.sip.command_tap import nothing
from tests.sip.haproxy_rig import (
    A_ALONE,
    BACK,
    BIND,
    NAME,
    PREFER,
    REMOVE,
    TRUNK,
    A,
    B,
    C,
    HaproxyRig,
    client_context,
    connected,
    haproxy_rig,
    ramp,
)

pytestmark = pytest.mark.sip


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[HaproxyRig]:
    """One node that presents A, slot `two` empty."""
    async with haproxy_rig(tmp_path) as running:
        yield running


async def test_every_step_of_a_rotation_is_served_as_the_adapter_says(rig: HaproxyRig) -> None:
    edge = rig.edge
    before = await rig.state()
    assert (before.pool, before.shares, before.canary, before.enabled) == ((A.sha256,), (100,), None, True)
    stored = await edge.upload(NAME, B.chain_pem, B.private_key)
    assert (stored.id, stored.name, stored.sha256, stored.valid) == ("trunk-two.pem", NAME, B.sha256, True)
    assert await rig.state() == before

    bound = await rig.change(BIND)
    assert (bound.pool, bound.shares, bound.presented) == ((A.sha256, B.sha256), (100, 0), (A.sha256,))
    assert (bound.canary, bound.canary_path) == (B.sha256, CanaryPath(port=rig.node.ports["canary"]))
    assert await rig.served(times=5) == {"A": 5}
    assert await rig.served(canary=True, times=5) == {"B": 5}

    for share in (5, 25, 50):
        stepped = await rig.change(ramp(share))
        assert (stepped.shares, stepped.canary) == ((100 - share, share), B.sha256)
        served = await rig.served(times=100)
        assert abs(served["B"] - share) <= 1, "the share, give or take where the round begins"

    preferred = await rig.change(PREFER)
    assert (preferred.pool, preferred.presented) == ((B.sha256, A.sha256), (B.sha256,))
    assert await rig.served(times=20) == {"B": 20}

    alone = await rig.change(REMOVE)
    assert (alone.pool, alone.shares, alone.canary, alone.canary_path) == ((B.sha256,), (100,), None, None)
    assert await rig.served(canary=True) == {"B": 1}, "without a canary the second port follows the first"

    assert await edge.delete_certificate(A.sha256) is True
    assert rig.held() == {"one": "-", "two": "B"}
    assert await edge.find_certificate(A.sha256) is None
    assert [one.sha256 for one in await edge.certificates()] == [B.sha256]
    assert await rig.state() == alone
    assert await rig.served(times=5) == {"B": 5}


async def test_the_next_rotation_takes_the_slot_that_the_last_one_left(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.change(REMOVE)
    await rig.edge.delete_certificate(A.sha256)
    await rig.edge.upload("next", C.chain_pem, C.private_key)
    assert rig.held() == {"one": "C", "two": "B"}
    await rig.change(TrunkChange(pool=(C.sha256, B.sha256)))
    assert await rig.served(times=5) == {"C": 5}


async def test_going_back_leaves_nothing_of_b_in_memory_or_on_disk(rig: HaproxyRig) -> None:
    before = await rig.state()
    await rig.bound()
    await rig.change(PREFER)
    assert (await rig.change(BACK)).presented == (A.sha256,)
    assert await rig.served(times=5) == {"A": 5}
    after = await rig.change(A_ALONE)
    assert await rig.edge.delete_certificate(B.sha256) is True
    assert after.model_copy(update={"version": before.version}) == before
    assert await rig.state() == after
    assert rig.held() == {"one": "A", "two": "-"}
    there = b"".join(path.read_bytes() for path in rig.node.sip.iterdir())
    assert not any(line.encode() in there for line in key_lines(B))
    shown = await rig.node.command(f"@1 show ssl cert {rig.node.slot('two')}")
    assert "Subject: /CN=empty slot\n" in shown


async def test_every_step_may_be_repeated_and_then_changes_nothing(rig: HaproxyRig) -> None:
    steps = [
        lambda: rig.edge.upload(NAME, B.chain_pem, B.private_key),
        lambda: rig.change(BIND),
        lambda: rig.change(ramp(25)),
        lambda: rig.change(PREFER),
        lambda: rig.change(REMOVE),
        lambda: rig.edge.delete_certificate(A.sha256),
    ]
    for step in steps:
        first = await step()
        done, writes = list(rig.taps[0].done), list(rig.files[0].writes)
        assert await step() == (False if first is True else first)
        assert (rig.taps[0].done, rig.files[0].writes) == (done, writes)


async def test_a_step_whose_answer_was_lost_is_finished_by_its_repetition(rig: HaproxyRig) -> None:
    steps = [
        (lambda: rig.edge.upload(NAME, B.chain_pem, B.private_key), {"A": 20}),
        (lambda: rig.change(BIND), {"A": 20}),
        (lambda: rig.change(ramp(50)), {"A": 10, "B": 10}),
        (lambda: rig.change(PREFER), {"B": 20}),
        (lambda: rig.change(REMOVE), {"B": 20}),
        (lambda: rig.edge.delete_certificate(A.sha256), {"B": 20}),
    ]
    for step, served in steps:
        rig.taps[0].lose_answer = True
        with pytest.raises(Unreachable):
            await step()
        assert not rig.taps[0].lose_answer, "there was an answer to lose"
        await step()
        assert await rig.served(times=20) == served
    assert rig.held() == {"one": "-", "two": "B"}


# -- others who write --------------------------------------------------------------------------------------------------


async def test_the_file_of_the_pools_is_not_written_over_somebody_elses_edit(rig: HaproxyRig) -> None:
    await rig.upload_b()
    pool = rig.node.pool_file

    def edit(name: str) -> None:
        raise AssertionError(f"{name} was written over an edit")

    text = pool.read_text()
    real_read, reads = rig.files[0].read, []

    async def read(name: str) -> bytes | None:
        if name == pool.name:
            reads.append(name)
            if len(reads) == 2:  # it has been looked at, and is about to be written
                pool.write_text(text + "# somebody was here\n")
        return await real_read(name)

    rig.files[0].read, rig.files[0].before = read, edit  # type: ignore[method-assign]
    with pytest.raises(ConcurrentEdit):
        await rig.change(BIND)
    rig.files[0].read, rig.files[0].before = real_read, nothing  # type: ignore[method-assign]
    assert (await rig.state()).pool == (A.sha256,)
    assert (await rig.change(BIND)).pool == (A.sha256, B.sha256)
    assert pool.read_text().endswith("# somebody was here\n")


async def test_what_an_operator_changes_at_run_time_is_seen_and_put_right(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.node.command("@1 set server trunk-pool/two weight 100")
    seen = await rig.state()
    assert (seen.pool, seen.shares) == ((A.sha256, B.sha256), (50, 50))
    assert await rig.served(times=10) == {"A": 5, "B": 5}
    assert (await rig.change(TrunkChange(pool=(A.sha256, B.sha256)))).shares == (100, 0)
    assert await rig.served(times=10) == {"A": 10}


async def test_a_server_that_somebody_drained_serves_again_when_it_is_wanted(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.node.command("@1 set server trunk-pool/two state drain")
    assert (await rig.change(PREFER)).presented == (B.sha256,)
    assert await rig.served(times=10) == {"B": 10}


async def test_a_write_that_is_too_late_is_not_sent(rig: HaproxyRig) -> None:
    with acting_within(0), pytest.raises(TooLate):
        await rig.upload_b()
    await rig.bound()
    done = list(rig.taps[0].done)
    with acting_within(0), pytest.raises(TooLate):
        await rig.change(PREFER)
    assert rig.taps[0].done == done
    assert await rig.served() == {"A": 1}


async def test_what_others_change_right_after_us_is_not_called_done(rig: HaproxyRig) -> None:
    await rig.upload_b()
    real = rig.files[0].write

    async def write(name: str, content: bytes) -> None:
        await real(name, content)
        rig.node.pool_file.write_bytes(content.replace(b"first one", b"first two"))

    rig.files[0].write = write  # type: ignore[method-assign]
    with pytest.raises(ConcurrentEdit):
        await rig.change(BIND)


async def test_what_is_said_to_be_done_is_read_back(rig: HaproxyRig) -> None:
    await rig.upload_b()
    rig.taps[0].swallow = True
    with pytest.raises(NotAsWritten, match="run time pool/two None, not 0"):
        await rig.change(BIND)
    rig.taps[0].swallow = False
    assert (await rig.change(BIND)).canary == B.sha256


# -- what is refused ---------------------------------------------------------------------------------------------------


LEAF_ONLY = B.chain_pem.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
BAD = {
    "leaf only": (LEAF_ONLY, B.private_key, "neither sent nor trusted"),
    "key of another": (B.chain_pem, C.private_key, "belongs to another"),
    "expired": (expired_leaf().chain_pem, expired_leaf().private_key, "is valid from"),
    "truncated": (B.chain_pem[:400], B.private_key, "PEM"),
    "key truncated": (B.chain_pem, SecretStr(B.private_key.get_secret_value()[:120]), "no private key"),
    "no key": (B.chain_pem, SecretStr(""), "no private key"),
    "too long for HAProxy": (B.chain_pem + C.chain_pem * 15, B.private_key, "takes 15000"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_could_not_serve_is_refused_before_haproxy_sees_it(what: str, rig: HaproxyRig) -> None:
    chain_pem, key, why = BAD[what]
    with pytest.raises(RequestRefused) as refused:
        await rig.edge.upload(NAME, chain_pem, key)
    if what != "too long for HAProxy":
        assert why in str(refused.value)
    assert not any(line in str(refused.value) for line in key_lines(B))
    assert (rig.taps[0].done, rig.files[0].writes) == ([], [])
    assert rig.held() == {"one": "A", "two": "-"}


async def test_a_third_certificate_is_refused_by_the_names_of_the_two(rig: HaproxyRig) -> None:
    await rig.bound()
    with pytest.raises(RequestRefused, match="no third") as refused:
        await rig.edge.upload("third", C.chain_pem, C.private_key)
    for leaf in (A, B):
        assert f"{leaf.certificate.serial_number:X}" in str(refused.value)
    assert rig.held() == {"one": "A", "two": "B"}


async def test_impossible_changes_are_refused(rig: HaproxyRig) -> None:
    await rig.upload_b()
    settings = TrunkSettings(retransmission_timeout_s=30, cipher_suites=())
    impossible = [
        (TrunkChange(pool=()), RequestRefused, "never written"),
        (TrunkChange(pool=(A.sha256, C.sha256)), RequestRefused, "not uploaded"),
        (TrunkChange(canary=C.sha256), RequestRefused, "not uploaded"),
        (TrunkChange(pool=(A.sha256, B.sha256), shares=(90, 5)), RequestRefused, "add up to 100"),
        (TrunkChange(pool=(A.sha256, B.sha256), shares=(100,)), RequestRefused, "add up to 100"),
        (TrunkChange(pool=(A.sha256, B.sha256, C.sha256)), RequestRefused, "two slots"),
        (TrunkChange(settings=settings), CapabilityMissing, "configuration"),
    ]
    for change, error, why in impossible:
        with pytest.raises(error, match=why):
            await rig.change(change)
    with pytest.raises(CapabilityMissing):
        await rig.edge.flush_tickets(TRUNK)
    with pytest.raises(RequestRefused, match="in use"):
        await rig.edge.delete_certificate(A.sha256)
    assert await rig.served() == Counter({"A": 1})


async def test_a_session_is_never_resumed_so_there_is_nothing_to_flush(rig: HaproxyRig) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context()
        context.minimum_version = context.maximum_version = version
        with connected(rig.node.address, rig.node.ports["public"], context=context) as first:
            first.sendall(b"\r\n\r\n")
            session = first.session
        with connected(rig.node.address, rig.node.ports["public"], context=context, session=session) as second:
            assert second.session_reused is False


async def test_health_says_what_serves_and_what_time_it_is(rig: HaproxyRig) -> None:
    await rig.bound()
    health = await rig.edge.health(TRUNK)
    assert health.listener_up is True
    assert [(one.sha256, one.valid) for one in health.certificates] == [(A.sha256, True), (B.sha256, True)]
    assert health.active_calls == {A.sha256: 0, B.sha256: 0}
    assert health.clock is not None
    assert abs(health.clock - datetime.now(UTC)) <= timedelta(seconds=1.5)
    assert health.counting_since is not None
    assert health.counting_since < datetime.now(UTC) + timedelta(seconds=1)
    await rig.node.command("@1 disable frontend trunk")
    assert (await rig.edge.health(TRUNK)).listener_up is False
    assert (await rig.state()).enabled is False
