"""The carrier's health endpoint: its figures as samples, its access check in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from adapters.carriers.http_health import HttpHealthCarrier
from domain.errors import CredentialsRefused, ServerFailed, SettingsInvalid, Throttled, UnexpectedAnswer
from domain.handshakes import Reporter, Tally
from domain.plan import Direction
from settings import CarrierProfile
from tests.adapters.endpoints import endpoint

LEAF = "ab" * 32
SINCE = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
UNTIL = datetime(2026, 11, 23, 18, 40, tzinfo=UTC)


def carrier(answer: Callable[[httpx.Request], httpx.Response]) -> HttpHealthCarrier:
    """The adapter in front of one answer."""
    profile = CarrierProfile.model_validate(
        {"kind": "http-health", "base_url": "https://carrier.example.com/", "token": {"env": "TEST_CARRIER_TOKEN"}}
    )
    return HttpHealthCarrier("acme", profile, transport=httpx.MockTransport(answer))


def shown(sha256: str | None, direction: str = "INBOUND", *, failed: int = 0) -> dict[str, Any]:
    """Counts of one certificate, as the carrier words them."""
    return {
        "sha256": sha256,
        "direction": direction,
        "handshakes": {"attempts": 10, "successes": 10 - failed, "failures": {"unknown_ca": failed}},
        "callSetups": {"attempts": 2, "successes": 1, "failures": {"403": 1}},
    }


class Answering:
    """A carrier that answers for its one trunk and remembers what it was asked."""

    def __init__(self, *certificates: dict[str, Any], **changes: Any) -> None:
        self.certificates, self.changes = certificates, changes
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        body = {
            "trunk": "acme-eu/1",
            "timestamp": "2026-11-23T18:40:00.100Z",
            "since": request.url.params["since"],
            "until": request.url.params["until"],
            "status": "UP",
            "certificates": list(self.certificates),
        }
        return httpx.Response(200, json={**body, **self.changes})


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CARRIER_TOKEN", "carrier-t0ken")


async def test_the_carriers_figures_are_asked_for_as_the_contract_says() -> None:
    answering = Answering(shown(LEAF, failed=1), shown(None), shown(LEAF, "OUTBOUND"))
    reading = await carrier(answering).reading(endpoint(), SINCE, UNTIL)
    (request,) = answering.asked
    assert (request.method, request.url.raw_path) == (
        "GET",
        b"/v1/trunks/acme-eu%2F1/tls-health?since=2026-11-23T18%3A30%3A00.000Z&until=2026-11-23T18%3A40%3A00.000Z",
    )
    assert request.headers["Authorization"] == "Bearer carrier-t0ken"
    on_leaf, unknown, outbound = reading.samples
    assert (on_leaf.sha256, on_leaf.direction, on_leaf.reporter) == (LEAF, Direction.INBOUND, Reporter.CARRIER)
    assert on_leaf.handshakes == Tally(attempts=10, successes=9, failures={"unknown_ca": 1})
    assert on_leaf.call_setups == Tally(attempts=2, successes=1, failures={"403": 1})
    assert (on_leaf.peer, on_leaf.synthetic) == (None, False)
    assert unknown.sha256 is None
    assert unknown.handshakes.failures == {}
    assert outbound.direction is Direction.OUTBOUND
    assert reading.read_at == datetime(2026, 11, 23, 18, 40, 0, 100_000, tzinfo=UTC)
    assert (reading.since, reading.until, reading.endpoint) == (SINCE, UNTIL, "eu-1")


@pytest.mark.parametrize(
    "answering",
    [
        Answering(trunk="acme-eu/2"),
        Answering(since="2026-11-23T18:00:00.000Z"),
        Answering(until="now"),
        Answering(status="MAYBE"),
        Answering(shown("abcd")),
        Answering({**shown(LEAF), "handshakes": {"attempts": 3, "successes": 1, "failures": {}}}),
        Answering(timestamp="2026-11-23T18:40:00"),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_not_used(answering: Answering) -> None:
    with pytest.raises(UnexpectedAnswer):
        await carrier(answering).reading(endpoint(), SINCE, UNTIL)


async def test_access_is_complete_when_the_trunk_is_known_and_up() -> None:
    assert await carrier(Answering()).check_access(endpoint()) == ()


async def test_a_trunk_that_the_carrier_reports_down_is_missing() -> None:
    (missing,) = await carrier(Answering(status="DOWN")).check_access(endpoint())
    assert missing == "the carrier reports trunk acme-eu/1 as DOWN"


@pytest.mark.parametrize(("status", "words"), [(401, "credentials"), (404, "check the ids"), (403, "permission")])
async def test_what_a_person_must_mend_is_told_in_words(status: int, words: str) -> None:
    refusing = carrier(lambda request: httpx.Response(status, json={"error": "no such trunk"}))
    (missing,) = await refusing.check_access(endpoint())
    assert words in missing
    assert f"{status} no such trunk" in missing
    assert "carrier-t0ken" not in missing


async def test_a_failure_that_may_pass_is_raised_by_the_access_check() -> None:
    with pytest.raises(ServerFailed):
        await carrier(lambda request: httpx.Response(503, json={"error": "down"})).check_access(endpoint())


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (httpx.Response(401, json={"error": "unknown token"}), CredentialsRefused),
        (httpx.Response(503, json={"error": "busy"}, headers={"Retry-After": "5"}), Throttled),
    ],
)
async def test_a_refusal_is_typed(response: httpx.Response, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=r"\[carriers.acme\] GET https://carrier\.example\.com/v1/trunks/acme-eu%2F1"):
        await carrier(lambda request: response).reading(endpoint(), SINCE, UNTIL)


async def test_a_missing_token_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_CARRIER_TOKEN")
    with pytest.raises(SettingsInvalid, match=r"carriers\.acme\.token"):
        await carrier(Answering()).reading(endpoint(), SINCE, UNTIL)


async def test_closing() -> None:
    await carrier(Answering()).close()
