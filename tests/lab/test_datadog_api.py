"""The stand-in of Datadog's query API: what it answers, and what it refuses, in Datadog's words."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from lab.api_guard import RequestLog
from lab.datadog_api import DatadogApi
from lab.ledger import Ledger

LEAF = "ab" * 32
BEGIN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
T0 = int(BEGIN.timestamp()) * 1000
HEADERS = {"DD-API-KEY": "an-api-key", "DD-APPLICATION-KEY": "an-application-key"}
PATH = "/api/v2/query/timeseries"


class Desk:
    """One trunk with a ledger whose clock the test turns."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.ledger = Ledger(lambda: self.now)
        self.log = RequestLog()
        self.status: int | None = None
        api = DatadogApi(
            {"eu": (self.ledger, ("INBOUND",))},
            api_key="an-api-key",
            application_key="an-application-key",
            log=self.log,
            faults=self,
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(api.application), base_url="http://datadog", headers=HEADERS
        )

    def request_fault(self, service: str) -> int | None:
        return self.status

    def happens(self, second: float, cause: str | None = None, **where: Any) -> None:
        self.now = BEGIN + timedelta(seconds=second)
        self.ledger.handshake(where.get("direction", "INBOUND"), where.get("sha256", LEAF), "192.0.2.1", cause)

    async def ask(self, *queries: str, **changes: Any) -> dict[str, Any]:
        """The attributes of the answer."""
        answer = await self.http.post(PATH, json=request(*queries, **changes))
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["data"]["type"], answer.headers["content-type"]) == (
            "timeseries_response",
            "application/vnd.api+json",
        )
        found: dict[str, Any] = body["data"]["attributes"]
        return found


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.http.aclose()


def request(*queries: str, **changes: Any) -> dict[str, Any]:
    named = [
        {"data_source": "metrics", "name": f"q{index}", "query": query} for index, query in enumerate(queries or (OK,))
    ]
    attributes = {"from": T0, "to": T0 + 60_000, "interval": 10_000, "queries": named, **changes}
    return {"data": {"type": "timeseries_request", "attributes": attributes}}


OK = "sum:sip.handshakes.ok{trunk:eu} by {direction,certificate}.as_count()"
FAILED = "sum:sip.handshakes.failed{trunk:eu} by {cause}.as_count()"


async def test_counts_come_in_intervals_with_null_where_another_series_has_a_value(desk: Desk) -> None:
    for second in (1, 2, 25, 59.9):
        desk.happens(second)
    desk.happens(61)
    desk.ledger.handshake("OUTBOUND", LEAF, "192.0.2.1")
    answer = await desk.ask(OK, FAILED)
    assert answer == {
        "series": [{"group_tags": ["direction:inbound", f"certificate:{LEAF}"], "query_index": 0, "unit": None}],
        "times": [T0, T0 + 20_000, T0 + 50_000],
        "values": [[2, 1, 1]],
    }
    desk = Desk()
    desk.happens(1)
    desk.happens(12, "unknown_ca", sha256=None)
    answer = await desk.ask(OK, FAILED, formulas=[{"formula": "q1"}, {"formula": "q0"}])
    assert [(one["query_index"], one["group_tags"][0]) for one in answer["series"]] == [
        (0, "cause:unknown_ca"),
        (1, "direction:inbound"),
    ]
    assert answer["values"] == [[None, 1], [1, None]]


async def test_what_a_query_does_not_group_by_is_summed_up(desk: Desk) -> None:
    desk.happens(1)
    desk.happens(2, sha256="cd" * 32)
    answer = await desk.ask("sum:sip.handshakes.ok{trunk:eu} by {direction}.as_count()")
    assert (answer["series"][0]["group_tags"], answer["values"]) == (["direction:inbound"], [[2]])
    answer = await desk.ask("sum:sip.handshakes.ok{trunk:eu}.as_count()")
    assert (answer["series"][0]["group_tags"], answer["values"]) == ([], [[2]])


async def test_the_start_time_is_told_in_every_interval_up_to_now(desk: Desk) -> None:
    desk.now = BEGIN + timedelta(seconds=25)
    answer = await desk.ask("max:sip.start_time{trunk:eu} by {host}", **{"from": T0 - 30_000})
    assert answer["series"][0]["group_tags"] == ["host:edge-of-eu"]
    assert answer["times"] == [T0, T0 + 10_000, T0 + 20_000]
    assert answer["values"] == [[T0 / 1000] * 3]


async def test_what_nobody_counted_has_no_series(desk: Desk) -> None:
    assert await desk.ask(OK, FAILED) == {"series": [], "times": [], "values": []}
    assert await desk.ask(OK.replace("eu", "us")) == {"series": [], "times": [], "values": []}


def attributes(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    body = copy.deepcopy(request())
    change(body["data"]["attributes"])
    return body


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "'data' is missing"),
        ({**request(), "meta": {}}, "unknown field 'meta'"),
        ({"data": {**request()["data"], "type": "scalar_request"}}, "'data' must be"),
        (attributes(lambda a: a.update(limit=1)), "'data' must be"),
        (attributes(lambda a: a.update({"from": "2026-11-24T12:00:00Z"})), "'data' must be"),
        (attributes(lambda a: a.update({"from": a["to"]})), "from must be before to"),
        (attributes(lambda a: a.update({"to": a["from"] - 1})), "from must be before to"),
        (attributes(lambda a: a.update(interval=0)), "'data' must be"),
        (attributes(lambda a: a.update(interval=1.5)), "'data' must be"),
        (attributes(lambda a: a.update(interval=1500)), "interval must be in whole seconds"),
        (attributes(lambda a: a.update({"from": 0})), "at most 1500 points"),
        (attributes(lambda a: a.update(queries=[])), "'data' must be"),
        (attributes(lambda a: a["queries"][0].update(data_source="logs")), "'data' must be"),
        (attributes(lambda a: a["queries"].append({**a["queries"][0], "query": FAILED})), "same name"),
        (attributes(lambda a: a.update(formulas=[{"formula": "q9"}])), "a formula names no query"),
        (request("sum:sip.handshakes.ok{trunk:eu}"), "scope_expr"),
        (request("sum:sip.handshakes.ok{*}.as_count()"), "scope_expr"),
        (request("avg:sip.handshakes.ok{trunk:eu}.as_count()"), "scope_expr"),
        (request("sum:sip.handshakes.ok{trunk:eu} by {host}.as_count()"), "unknown or repeated tag"),
        (request("sum:sip.handshakes.ok{trunk:eu} by {peer,peer}.as_count()"), "unknown or repeated tag"),
    ],
)
async def test_what_the_contract_does_not_allow_is_refused(desk: Desk, body: dict[str, Any], told: str) -> None:
    answer = await desk.http.post(PATH, json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["errors"]
    assert told in answer.json()["errors"][0]


async def test_a_wrong_media_type_an_unknown_parameter_and_an_unknown_path_are_refused(desk: Desk) -> None:
    text = await desk.http.post(PATH, content=b"{}", headers={"Content-Type": "text/plain"})
    assert (text.status_code, text.json()) == (400, {"errors": ["Content-Type must be application/json"]})
    asked = await desk.http.post(PATH, params={"from": "1"}, json=request())
    assert asked.status_code == 400
    assert (await desk.http.get(PATH)).status_code == 405
    assert (await desk.http.post("/api/v2/query/scalar", json={})).json() == {"errors": ["Not Found"]}


@pytest.mark.parametrize("path", [PATH, "/api/v2/validate_keys"])
@pytest.mark.parametrize("name", HEADERS)
async def test_both_keys_have_to_be_there_and_right(desk: Desk, path: str, name: str) -> None:
    async def answer(**headers: str) -> httpx.Response:
        method = "POST" if path == PATH else "GET"
        body = request() if path == PATH else None
        async with httpx.AsyncClient(transport=desk.http._transport, base_url="http://datadog") as http:
            return await http.request(method, path, json=body, headers=headers)

    missing = await answer(**{other: key for other, key in HEADERS.items() if other != name})
    assert (missing.status_code, missing.json()) == (401, {"errors": ["Unauthorized"]})
    wrong = await answer(**{**HEADERS, name: "another"})
    assert (wrong.status_code, wrong.json()) == (403, {"errors": ["Forbidden"]})
    assert (await answer(**HEADERS)).status_code == 200


async def test_an_armed_fault_strikes_with_datadogs_headers(desk: Desk) -> None:
    desk.status = 429
    limited = await desk.http.post(PATH, json=request())
    assert (limited.status_code, limited.headers["X-RateLimit-Reset"]) == (429, "7")
    desk.status = 500
    assert (await desk.http.post(PATH, json=request())).json() == {"errors": ["Internal Server Error"]}
    assert [(entry.service, entry.status) for entry in desk.log.entries] == [("datadog", 429), ("datadog", 500)]
