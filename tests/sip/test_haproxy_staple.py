"""OCSP stapling on a real HAProxy: B's response at run time and after a restart, seen by an independent client."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from domain.errors import RequestRefused
from tests.adapters.trunk_leaves import root
from tests.sip.haproxy_rig import REMOVE, A, B, C, HaproxyRig, haproxy_rig
from tests.sip.ocsp_signer import good

pytestmark = pytest.mark.sip

NONE = "no response sent"


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[HaproxyRig]:
    """A and B bound; the canary path serves B."""
    async with haproxy_rig(tmp_path) as running:
        (tmp_path / "root.pem").write_text(root().pem)
        await running.bound()
        yield running


async def stapled(rig: HaproxyRig, port: str = "canary") -> str:
    """What `openssl s_client -status` shows: the certificate's status and its nextUpdate, or `NONE`."""
    address = f"{rig.node.address}:{rig.node.ports[port]}"
    command = ["openssl", "s_client", "-connect", address, "-status", "-CAfile", rig.settings.trust_anchor_file]
    shown = await asyncio.to_thread(subprocess.run, command, input=b"", capture_output=True, timeout=10)
    text = shown.stdout.decode()
    if NONE in text:
        return NONE
    status, until = re.search(r"Cert Status: (\w+)", text), re.search(r"Next Update: (.*)", text)
    assert status is not None, text
    assert until is not None, text
    return f"{status[1]} until {until[1]}"


async def test_a_response_is_stapled_at_once_refreshed_and_there_after_a_restart(rig: HaproxyRig) -> None:
    assert await stapled(rig) == NONE
    await rig.edge.staple(B.sha256, good(B))
    first = await stapled(rig)
    assert first.startswith("good until ")
    assert await stapled(rig, "public") == NONE, "A's slot has none"
    fresh = good(B, life=timedelta(hours=30))
    await rig.edge.staple(B.sha256, fresh)
    second = await stapled(rig)
    assert second.startswith("good until ")
    assert second != first
    await rig.node.restart(killed=True)
    assert await stapled(rig) == second
    assert rig.kept_staple("two") == fresh
    await rig.edge.staple(B.sha256, fresh)
    assert await stapled(rig) == second


async def test_a_response_that_haproxy_would_not_send_is_refused_and_not_kept(rig: HaproxyRig) -> None:
    await rig.edge.staple(B.sha256, good(B))
    kept = rig.kept_staple("two")
    shown = await stapled(rig)
    for bad in (good(B, age=timedelta(hours=2)), good(A), b"no response"):
        with pytest.raises(RequestRefused):
            await rig.edge.staple(B.sha256, bad)
        assert rig.kept_staple("two") == kept
        assert await stapled(rig) == shown
    with pytest.raises(RequestRefused, match="not uploaded"):
        await rig.edge.staple(C.sha256, good(C))


async def test_a_staple_goes_with_its_certificate_and_keeps_nothing_from_starting(rig: HaproxyRig) -> None:
    """HAProxy does not start with a response beside a certificate whose issuer it cannot find."""
    await rig.edge.staple(A.sha256, good(A))
    await rig.change(REMOVE)
    await rig.edge.delete_certificate(A.sha256)
    assert rig.kept_staple("one") is None
    await rig.node.restart()
    await rig.edge.upload("next", C.chain_pem, C.private_key)
    await rig.node.restart()
    assert rig.held() == {"one": "C", "two": "B"}


async def test_a_deletion_that_is_interrupted_anywhere_still_starts(rig: HaproxyRig) -> None:
    await rig.edge.staple(A.sha256, good(A))
    await rig.change(REMOVE)
    left: list[str] = ["trunk-one.pem"]

    def stop(name: str) -> None:
        if name in left:
            left.clear()
            raise ConnectionError("the worker ends here")

    rig.files[0].before = stop
    with pytest.raises(ConnectionError):
        await rig.edge.delete_certificate(A.sha256)
    await rig.node.restart()
    assert rig.held() == {"one": "A", "two": "B"}
    assert await rig.edge.delete_certificate(A.sha256) is True
    await rig.node.restart()
    assert rig.held() == {"one": "-", "two": "B"}
