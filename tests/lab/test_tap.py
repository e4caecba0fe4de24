"""The taps: they name and count what passes, hold it, lose it, and deliver what its client has long given up."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import dns.asyncquery
import dns.message
import dns.tsig
import dns.update
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.dns_server import DnsServer, UpdateKey
from lab.http_service import HttpService
from lab.lab_names import CXONE, CXONE_TARGET_A, SRV_NAMES
from lab.tap import Action, Rule, State, Taps
from lab.tap_api import TapApi
from lab.tap_dns import DnsTap
from lab.tap_http import HttpTap
from lab.tap_names import http_operation
from lab.world_dns import lab_zone
from tests.lab.waiting import until

SECRET = secrets.token_bytes(32)
SRV = SRV_NAMES[CXONE]
CLIENT_PATIENCE_S = 0.3


@dataclass
class Shop:
    """A service behind a tap: it keeps what it was sent, and answers with it."""

    taps: Taps
    http: httpx.AsyncClient = field(repr=False)
    taken: list[str] = field(default_factory=list)

    async def put(self, text: str, path: str = "/things/7") -> httpx.Response:
        return await self.http.put(path, json={"text": text})

    def rule(self, action: Action, occurrence: int = 1, operation: str = "PUT /things/{id}") -> Rule:
        return self.taps.add("shop", operation, occurrence, action)

    async def reached(self, rule: Rule) -> None:
        async def is_reached() -> bool:
            return rule.state is State.REACHED

        await until(is_reached)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    taps = Taps()
    taken: list[str] = []

    async def take(request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"taken": taken}, headers={"X-Seen": request.headers.get("x-sent", "")})
        body = await request.json()
        if body["text"] == "refuse":
            return Response(status_code=409)
        taken.append(body["text"])
        return JSONResponse(body) if request.method == "PUT" else Response(status_code=204)

    routes = [Route("/{path:path}", take, methods=["GET", "PUT", "POST", "DELETE", "LIST"])]
    service = HttpService(Starlette(routes=routes))
    tap = HttpTap("shop", service.url, taps)
    await service.start()
    await tap.start()
    async with httpx.AsyncClient(base_url=tap.url, trust_env=False, timeout=10) as http:
        yield Shop(taps, http, taken)
    taps.forget()
    await tap.stop()
    await service.stop()


async def test_an_untouched_request_passes_with_its_headers_query_and_body(shop: Shop) -> None:
    answer = await shop.put("one")
    assert (answer.status_code, answer.json()) == (200, {"text": "one"})
    seen = await shop.http.get("/things?page=2", headers={"X-Sent": "hello"})
    assert seen.headers["x-seen"] == "hello"
    assert seen.json() == {"taken": ["one"]}
    assert (await shop.http.post("/things", json={"text": "two"})).status_code == 204


async def test_the_journal_holds_what_changed_something_and_nothing_else(shop: Shop) -> None:
    await shop.put("one")
    await shop.put("refuse")
    await shop.put("two", "/things/8")
    await shop.http.get("/things/7")
    await shop.http.request("LIST", "/things/7")
    await shop.http.post("/oauth/token", json={"text": "a token"})
    journal = [(one.operation, one.number) for one in shop.taps.journal()]
    assert journal == [("PUT /things/{id}", 1), ("PUT /things/{id}", 3)]
    assert len(shop.taps.passages) == 6


@pytest.mark.parametrize(
    ("method", "path", "name", "effect"),
    [
        (
            "PUT",
            "/api/v2/edges/edge/3fa85f64-aaaa/siptrunks/1b/x",
            "PUT /api/v2/edges/edge/{id}/siptrunks/{id}/x",
            True,
        ),
        ("POST", "/restapi/v1.0/sip/trunks/trunk-2/profile", "POST /restapi/v1.0/sip/trunks/{id}/profile", True),
        ("POST", "/v1/pki_int_b/sign/sip-trunk", "POST /v1/pki_int_b/sign/sip-trunk", True),
        ("POST", "/v1/siptls/data/rot/lab-7-0a1b/key", "POST /v1/siptls/data/rot/{id}/key", True),
        ("DELETE", "/v1/siptls/metadata/rot/lab-7-0a1b/key", "DELETE /v1/siptls/metadata/rot/{id}/key", True),
        ("POST", "/v1/transit/decrypt/sip-keys", "POST /v1/transit/decrypt/sip-keys", False),
        ("POST", "/v1/auth/approle/login", "POST /v1/auth/approle/login", False),
        ("POST", "/v1/pki_int_a/ocsp", "POST /v1/pki_int_a/ocsp", False),
        ("GET", "/v1/pki_int_a/crl/rotate", "GET /v1/pki_int_a/crl/rotate", False),
    ],
)
def test_the_same_step_has_the_same_name_in_every_run(method: str, path: str, name: str, effect: bool) -> None:
    operation = http_operation(method, path)
    assert (operation.name, operation.effect) == (name, effect)


async def test_a_request_held_before_it_is_sent_on_reaches_the_service_when_it_is_released(shop: Shop) -> None:
    rule = shop.rule(Action.HOLD_BEFORE)
    put = asyncio.create_task(shop.put("one"))
    await shop.reached(rule)
    assert shop.taken == []
    shop.taps.decide(rule, release=True)
    assert (await put).status_code == 200
    assert shop.taken == ["one"]


async def test_a_held_request_that_is_dropped_never_reaches_the_service(shop: Shop) -> None:
    rule = shop.rule(Action.HOLD_BEFORE)
    put = asyncio.create_task(shop.put("one"))
    await shop.reached(rule)
    shop.taps.decide(rule, release=False)
    with pytest.raises(httpx.RemoteProtocolError):
        await put
    assert shop.taken == []
    assert shop.taps.journal() == []


async def test_a_request_that_its_client_gave_up_can_still_be_delivered(shop: Shop) -> None:
    rule = shop.rule(Action.HOLD_BEFORE)
    with pytest.raises(httpx.ReadTimeout):
        await shop.http.put("/things/7", json={"text": "late"}, timeout=CLIENT_PATIENCE_S)
    await shop.put("meanwhile")
    assert shop.taken == ["meanwhile"]
    shop.taps.decide(rule, release=True)
    await rule.answered.wait()
    assert rule.delivered
    assert shop.taken == ["meanwhile", "late"]


async def test_an_answer_that_is_held_is_of_a_service_that_has_acted(shop: Shop) -> None:
    rule = shop.rule(Action.HOLD_AFTER)
    put = asyncio.create_task(shop.put("one"))
    await shop.reached(rule)
    assert shop.taken == ["one"]
    assert not put.done()
    shop.taps.decide(rule, release=True)
    assert (await put).status_code == 200


async def test_a_lost_answer_closes_the_connection_of_a_request_that_was_done(shop: Shop) -> None:
    shop.rule(Action.LOSE_ANSWER)
    with pytest.raises(httpx.RemoteProtocolError):
        await shop.put("one")
    assert shop.taken == ["one"]
    assert (await shop.put("two")).status_code == 200  # the rule was for one request


async def test_a_request_that_is_never_answered_is_never_done(shop: Shop) -> None:
    shop.rule(Action.NEVER_ANSWER)
    with pytest.raises(httpx.ReadTimeout):
        await shop.http.put("/things/7", json={"text": "one"}, timeout=CLIENT_PATIENCE_S)
    assert shop.taken == []


async def test_a_rule_counts_from_the_moment_it_was_set_and_only_its_operation(shop: Shop) -> None:
    await shop.put("before")
    rule = shop.rule(Action.LOSE_ANSWER, occurrence=2)
    await shop.put("first")
    await shop.http.post("/things", json={"text": "another operation"})
    with pytest.raises(httpx.RemoteProtocolError):
        await shop.put("second")
    assert rule.state is State.REACHED


async def test_forgetting_drops_what_is_held_and_empties_the_journal(shop: Shop) -> None:
    await shop.put("one")
    rule = shop.rule(Action.HOLD_BEFORE)
    put = asyncio.create_task(shop.put("two"))
    await shop.reached(rule)
    shop.taps.forget()
    with pytest.raises(httpx.RemoteProtocolError):
        await put
    assert shop.taps.journal() == []
    assert shop.taken == ["one"]


async def test_a_dns_update_passes_the_tap_and_a_question_does_not() -> None:
    taps = Taps()
    async with _dns(taps) as server:
        rule = taps.add("dns", f"UPDATE {SRV}", 1, Action.HOLD_BEFORE)
        with pytest.raises(dns.exception.Timeout):
            await dns.asyncquery.tcp(_update(30), server.address, port=server.port, timeout=CLIENT_PATIENCE_S)
        question = dns.message.make_query(SRV, "SRV")
        answer = await dns.asyncquery.tcp(question, server.address, port=server.port, timeout=5)
        assert "30 100" not in answer.to_text()
        taps.decide(rule, release=True)
        await rule.answered.wait()
        late = await dns.asyncquery.udp(question, server.address, port=server.port, timeout=5)
        assert "30 100" in late.to_text()
        assert [(one.service, one.operation) for one in taps.journal()] == [("dns", f"UPDATE {SRV}")]


async def test_a_dns_update_whose_answer_is_lost_was_done_and_one_without_changes_is_no_side_effect() -> None:
    taps = Taps()
    async with _dns(taps) as server:
        empty = _message()
        empty.present("lab.example.", "SOA")
        await dns.asyncquery.tcp(empty, server.address, port=server.port, timeout=5)
        assert taps.journal() == []
        taps.add("dns", f"UPDATE {SRV}", 1, Action.LOSE_ANSWER)
        with pytest.raises(EOFError):
            await dns.asyncquery.tcp(_update(30), server.address, port=server.port, timeout=5)
        assert len(taps.journal()) == 1


async def test_the_control_api_waits_until_a_hold_is_reached_and_delivers_it(shop: Shop) -> None:
    api = HttpService(Starlette(routes=TapApi(shop.taps).routes))
    await api.start()
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=20) as control:
        wanted = {"service": "shop", "operation": "PUT /things/{id}", "occurrence": 1, "action": "hold-before"}
        rule = (await control.post("/lab/taps/rules", json=wanted)).json()
        where = f"/lab/taps/rules/{rule['id']}"
        waiting = asyncio.create_task(control.get(where, params={"left": "armed", "wait_s": "20"}))
        put = asyncio.create_task(shop.put("one"))
        assert (await waiting).json()["state"] == "reached"
        released = (await control.post(where, json={"decision": "release"})).json()
        assert (released["state"], released["delivered"]) == ("released", True)
        assert (await put).status_code == 200
        journal = (await control.get("/lab/taps/journal")).json()["journal"]
        assert [(one["operation"], one["number"]) for one in journal] == [("PUT /things/{id}", 1)]
        assert (await control.post("/lab/taps/forget", json={})).json() == {}
        assert (await control.get(where)).status_code == 404
    await api.stop()


@contextlib.asynccontextmanager
async def _dns(taps: Taps) -> AsyncIterator[DnsServer]:
    zone = lab_zone("127.0.0.1", genesys_ports=[5060], cxone_ports=(5061, 5062))
    server = DnsServer(zone, UpdateKey("rotator", SECRET), DnsTap(taps))
    await server.start()
    try:
        yield server
    finally:
        taps.forget()
        await server.stop()


def _message() -> dns.update.UpdateMessage:
    message = dns.update.UpdateMessage("lab.example")
    message.use_tsig(dns.tsig.Key("rotator", SECRET, dns.tsig.HMAC_SHA256))
    return message


def _update(priority: int) -> dns.update.UpdateMessage:
    message = _message()
    message.delete(f"{SRV}.", "SRV")
    message.add(f"{SRV}.", 1, "SRV", f"{priority} 100 5061 {CXONE_TARGET_A}.")
    return message
