"""No write after its time: every adapter that changes the world asks before it sends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest
from temporalio import activity
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.failures import FailureInterceptor
from adapters.dns.base import SrvRecord, SrvSet
from adapters.dns.rfc2136 import Rfc2136Zone
from adapters.fence import acting_within, ensure_in_time
from adapters.http import Http
from adapters.vault_session import VaultSession
from domain.errors import TooLate
from settings import HttpProfile, Rfc2136Profile
from tests.adapters.real_bao import RealBao


def test_outside_of_an_activity_and_in_its_time_everything_may_be_sent() -> None:
    ensure_in_time("here")
    with acting_within(None):
        ensure_in_time("here")
    with acting_within(5.0):
        ensure_in_time("here")


def test_after_its_time_the_refusal_says_where_and_since_when() -> None:
    with acting_within(5.0, clock=lambda: 100.0):
        ensure_in_time("here", clock=lambda: 105.0)
        with pytest.raises(TooLate, match=r"here: the request is not sent any more; .* over 2.5 s ago"):
            ensure_in_time("here", clock=lambda: 107.5)


async def test_the_limit_reaches_threads_and_tasks_and_ends_with_its_block() -> None:
    with acting_within(-1.0), pytest.raises(TooLate):
        await asyncio.to_thread(ensure_in_time, "a thread")
    await asyncio.to_thread(ensure_in_time, "a thread")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
async def test_http_reads_are_sent_late_and_writes_are_not(method: str) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(200, json={})

    http = Http("[platforms.x]", HttpProfile(base_url="https://x.example"), transport=httpx.MockTransport(answer))
    with acting_within(-1.0):
        await http.send("GET", "https://x.example/trunk")
        with pytest.raises(TooLate, match=r"\[platforms.x\]"):
            await http.send(method, "https://x.example/trunk", json={})
    assert sent == ["GET"]
    await http.close()


async def test_vault_writes_are_not_sent_late(vault: RealBao) -> None:
    custodian = vault.custodian()
    await custodian.check_access()
    with acting_within(-1.0):
        assert await custodian.chain("nobody-000000000000") is None
        with pytest.raises(TooLate):
            await custodian.keep_chain("nobody-000000000000", "chain")
    assert await custodian.chain("nobody-000000000000") is None


class _Recorder(ActivityInboundInterceptor):
    def __init__(self) -> None:
        self.refused = False

    async def execute_activity(self, input: ExecuteActivityInput) -> None:
        try:
            ensure_in_time("the activity")
        except TooLate:
            self.refused = True


@pytest.mark.parametrize(("allowed", "refused"), [(timedelta(seconds=8), False), (timedelta(seconds=-1), True)])
async def test_an_activity_may_write_for_its_start_to_close(allowed: timedelta, refused: bool) -> None:
    recorder = _Recorder()
    environment = ActivityEnvironment()
    environment.info = ActivityEnvironment.default_info().__class__(
        **{**vars(ActivityEnvironment.default_info()), "start_to_close_timeout": allowed}
    )

    @activity.defn
    async def act() -> None:
        await (
            FailureInterceptor()
            .intercept_activity(recorder)
            .execute_activity(ExecuteActivityInput(fn=act, args=[], executor=None, headers={}))
        )

    await environment.run(act)
    assert recorder.refused is refused


async def test_dns_updates_are_not_sent_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is made, the update is not written on it."""
    received = bytearray()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())
        writer.close()

    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    monkeypatch.setenv("TEST_TSIG", "c2VjcmV0")
    profile = Rfc2136Profile.model_validate(
        {
            "kind": "rfc2136", "lab": True, "server": "127.0.0.1", "port": port, "zone": "example.com",
            "key_name": "k", "key_secret": {"env": "TEST_TSIG"},
        }
    )  # fmt: skip
    zone = Rfc2136Zone("x", profile)
    before = SrvSet(
        name="_sips._tcp.example.com",
        ttl=60,
        records=(SrvRecord(priority=10, weight=1, port=5061, target="a.example.com"),),
    )

    async def there(name: str) -> SrvSet:
        return before

    monkeypatch.setattr(zone, "read", there)
    wanted = before.model_copy(update={"ttl": 30})
    with acting_within(-1.0), pytest.raises(TooLate):
        await zone.replace(before, wanted)
    listener.close()
    await listener.wait_closed()
    assert received == b""


def test_the_session_is_the_one_that_custody_and_pki_share() -> None:
    """Both adapters send through `VaultSession`, so that one fence stands before both."""
    from adapters.keys import vault_kv
    from adapters.pki import vault

    assert vault_kv.VaultSession is VaultSession is vault.VaultSession
