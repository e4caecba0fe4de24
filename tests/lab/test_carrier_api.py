"""The carrier's health endpoint and the two inboxes, as docs/platform-contract.md has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from lab.api_guard import RequestLog
from lab.carrier_api import CARRIER_KINDS, OPERATIONS_KINDS, CarrierApi
from lab.ledger import Ledger
from lab.wire_time import now, time_text

LEAF = "ab" * 32
NOTICE: dict[str, Any] = {
    "id": "1",
    "severity": "info",
    "kind": "resume_resumption",
    "rotation": "lab",
    "phase": "RESTORE",
    "trunks": ["genesys"],
    "summary": "you may resume sessions again",
    "details": {"sha256": LEAF},
    "action": "enable TLS session resumption",
    "link": "https://temporal.example.com/namespaces/default/workflows/rotation-eu/1",
    "sentAt": "2026-11-23T18:40:00.000Z",
}


class Desk:
    """The API with two trunks: `both` ways, and `inbound` only."""

    def __init__(self) -> None:
        self.both, self.inbound = Ledger(), Ledger()
        self.down = False
        self.log = RequestLog()
        self.api = CarrierApi(
            {"both": (self.both, ("INBOUND", "OUTBOUND")), "inbound": (self.inbound, ("INBOUND",))},
            carrier_token="carrier's",
            operations_token="operations'",
            log=self.log,
            trunk_up=lambda trunk: trunk == "both",
            health_down=lambda: self.down,
        )
        transport = httpx.ASGITransport(self.api.application)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://carrier")

    async def health(self, trunk: str = "both", query: str | None = None, token: str = "carrier's") -> httpx.Response:
        since, until = time_text(now() - timedelta(minutes=1)), time_text(now() + timedelta(seconds=1))
        asked = f"since={since}&until={until}" if query is None else query
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.get(f"/v1/trunks/{trunk}/tls-health?{asked}", headers=headers)

    async def notify(
        self, body: Any, *, path: str = "/v1/notices", token: str = "carrier's", key: str | None = "key-1"
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
        return await self.http.post(path, json=body, headers=headers)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.http.aclose()


async def test_health_counts_by_leaf_and_direction_over_all_peers(desk: Desk) -> None:
    desk.both.handshake("INBOUND", LEAF, "127.0.0.1")
    desk.both.handshake("INBOUND", LEAF, "127.0.0.3", "unknown_ca")
    desk.both.handshake("OUTBOUND", None, "127.0.0.1", "protocol_version")
    desk.both.call_setup("INBOUND", LEAF, "127.0.0.1", 200)
    desk.both.call_setup("INBOUND", LEAF, "127.0.0.1", 486)
    desk.both.call_setup("INBOUND", LEAF, "127.0.0.1", 403)
    body = (await desk.health()).json()
    assert set(body) == {"trunk", "timestamp", "since", "until", "status", "certificates"}
    assert (body["trunk"], body["status"]) == ("both", "UP")
    certificates = {(one["sha256"], one["direction"]): one for one in body["certificates"]}
    assert certificates[LEAF, "INBOUND"]["handshakes"] == {
        "attempts": 2,
        "successes": 1,
        "failures": {"unknown_ca": 1},
    }
    assert certificates[LEAF, "INBOUND"]["callSetups"] == {"attempts": 3, "successes": 2, "failures": {"403": 1}}
    assert certificates[None, "OUTBOUND"]["handshakes"]["failures"] == {"protocol_version": 1}


async def test_calls_on_which_our_certificate_plays_no_part_are_not_reported(desk: Desk) -> None:
    desk.inbound.call_setup("OUTBOUND", None, "127.0.0.1", 200)
    body = (await desk.health("inbound")).json()
    assert (body["certificates"], body["status"]) == ([], "DOWN")


async def test_a_frozen_ledger_shows_in_the_timestamp(desk: Desk) -> None:
    desk.both.frozen = True
    first, second = (await desk.health()).json(), (await desk.health()).json()
    assert first["timestamp"] == second["timestamp"] == time_text(desk.both.read_at)


async def test_health_refuses_in_its_own_words(desk: Desk) -> None:
    assert (await desk.health(token="operations'")).status_code == 401
    assert (await desk.health("nobody")).status_code == 404
    for query in ("", "since=yesterday&until=today", "verbose=1"):
        answer = await desk.health(query=query)
        assert (answer.status_code, set(answer.json())) == (400, {"error"})
    since = time_text(now())
    assert (await desk.health(query=f"since={since}&until={since}")).status_code == 400
    desk.down = True
    assert (await desk.health()).status_code == 503
    assert [entry.status for entry in desk.log.entries][:2] == [401, 404]


async def test_a_notice_is_taken_once_for_each_key(desk: Desk) -> None:
    first = await desk.notify(NOTICE)
    again = await desk.notify(NOTICE)
    other = await desk.notify(NOTICE, key="key-2")
    assert [answer.status_code for answer in (first, again, other)] == [202, 200, 202]
    assert first.json() == again.json() != other.json()
    assert [message.body for message in desk.api.notices.messages] == [NOTICE, NOTICE]
    assert desk.api.alerts.messages == ()


async def test_carrier_and_operations_each_take_their_own_kinds_with_their_own_token(desk: Desk) -> None:
    for number, kind in enumerate(CARRIER_KINDS):
        assert (await desk.notify({**NOTICE, "kind": kind}, key=f"n{number}")).status_code == 202
    for number, kind in enumerate(OPERATIONS_KINDS):
        alert = {**NOTICE, "kind": kind}
        sent = await desk.notify(alert, path="/v1/alerts", token="operations'", key=f"a{number}")
        assert sent.status_code == 202
    assert (await desk.notify({**NOTICE, "kind": "breach"}, key="x")).status_code == 400
    assert (await desk.notify(NOTICE, path="/v1/alerts", token="operations'", key="y")).status_code == 400
    assert (await desk.notify(NOTICE, token="operations'")).status_code == 401
    assert (await desk.notify(NOTICE, path="/v1/alerts")).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"severity": "fatal"},
        {"trunks": "genesys"},
        {"details": {"count": 3}},
        {"sentAt": "2026-11-23T18:40:00Z"},
        {"link": "javascript:alert(1)"},
        {"extra": "x"},
        {"summary": None},
    ],
)
async def test_a_notice_that_is_not_the_contracts_is_refused(desk: Desk, change: dict[str, Any]) -> None:
    assert (await desk.notify({**NOTICE, **change})).status_code == 400
    assert desk.api.notices.messages == ()


async def test_a_notice_without_a_key_or_a_field_is_refused(desk: Desk) -> None:
    assert (await desk.notify(NOTICE, key=None)).status_code == 400
    for name in NOTICE:
        assert (await desk.notify({k: v for k, v in NOTICE.items() if k != name})).status_code == 400
    assert (await desk.http.get("/v1/notices")).status_code == 405
