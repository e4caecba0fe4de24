"""The Genesys observer over real HTTP: what it reads, that it writes nothing, and what it says when it cannot read."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.observers.genesys import AUTHORITIES, MOST_PAGES
from domain.errors import (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    Throttled,
    UnexpectedAnswer,
    Unreachable,
)
from domain.observed import Pinged
from lab.byoc_trunk import BYOC_CLOUD
from lab.ports import free_port
from tests.adapters.observer_lab import PROXIES, SECRET, TRUNK, ObserverLab, observer_lab, observer_of
from tests.lab.small_ca import Authority

EAST, WEST = PROXIES
READS = [f"GET {TRUNK} 200", "GET metrics 200"]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_OBSERVER_SECRET", SECRET)


@pytest.fixture
async def cloud() -> AsyncIterator[ObserverLab]:
    """An organisation that is well."""
    async with observer_lab() as lab:
        yield lab


def sha256(authority: Authority) -> str:
    return hashlib.sha256(authority.certificate.public_bytes(Encoding.DER)).hexdigest()


# -- the trunk ---------------------------------------------------------------------------------------------------------


async def test_a_trunk_is_read_with_its_pings_and_its_calls(cloud: ObserverLab) -> None:
    cloud.trunk.calls = lambda: (3, 1)
    seen = await cloud.observer.trunk(TRUNK)
    assert (seen.name, seen.connected, seen.out_of_service) == ("SBC Frankfurt", True, ())
    assert seen.pings is not None
    assert [(ping.address, ping.answered, ping.error) for ping in seen.pings] == [(EAST, True, ""), (WEST, True, "")]
    assert (seen.inbound_calls, seen.outbound_calls) == (3, 1)
    assert seen.heard_at is not None
    assert abs(datetime.now(UTC) - seen.heard_at) < timedelta(seconds=20)
    assert abs(seen.heard_at - seen.clock) <= timedelta(seconds=2), "the Date header has whole seconds"


async def test_a_ping_without_an_answer_says_since_when_and_why_and_the_other_keeps_the_trunk(
    cloud: ObserverLab,
) -> None:
    cloud.trunk.ping(WEST, "tls unknown_ca")
    seen = await cloud.observer.trunk(TRUNK)
    assert seen.connected
    assert seen.pings is not None
    _, west = seen.pings
    assert (west.answered, west.error) == (False, "options.failed: tls unknown_ca")
    assert west.since is not None
    assert abs(datetime.now(UTC) - west.since) < timedelta(seconds=20)


async def test_a_disconnected_trunk_says_since_when(cloud: ObserverLab) -> None:
    connected_since = (await cloud.observer.trunk(TRUNK)).connected_since
    cloud.trunk.cut(True)
    seen = await cloud.observer.trunk(TRUNK)
    assert not seen.connected
    assert connected_since is not None
    assert seen.connected_since is not None
    assert seen.connected_since >= connected_since


@pytest.mark.parametrize("status", ["DISABLED", "NOT_SUPPORTED"])
async def test_pings_that_are_off_are_no_pings_whatever_is_left_of_them(cloud: ObserverLab, status: str) -> None:
    cloud.trunk.ping(EAST, "left over from when they were on")
    cloud.trunk.options_enabled = status
    assert (await cloud.observer.trunk(TRUNK)).pings is None


async def test_a_trunk_out_of_service_says_who_took_it_out(cloud: ObserverLab) -> None:
    cloud.trunk.in_service = cloud.trunk.edge_in_service = False
    seen = await cloud.observer.trunk(TRUNK)
    assert seen.out_of_service == (
        "the trunk is not in service (inService is false)",
        "its edge is not in service (enabled is false)",
    )


async def test_a_report_keeps_the_time_at_which_it_was_made(cloud: ObserverLab) -> None:
    cloud.trunk.freeze(True)
    heard = (await cloud.observer.trunk(TRUNK)).heard_at
    await asyncio.sleep(0.01)
    assert (await cloud.observer.trunk(TRUNK)).heard_at == heard


# -- the trust store ---------------------------------------------------------------------------------------------------


async def test_every_certificate_of_every_page_is_trusted() -> None:
    roots = [Authority(f"root {n}") for n in range(5)]
    async with observer_lab(page_size=2) as cloud:
        for pem in (roots[0].pem + roots[1].pem, *(one.pem for one in roots[2:])):
            cloud.authorities.add("a CA", pem)
        assert await cloud.observer.trusted_roots(TRUNK) == frozenset({sha256(one) for one in roots})
        assert cloud.asked()[-2:] == ["GET certificateauthorities 200"] * 2


async def test_a_missing_root_is_missing_until_an_operator_adds_it(cloud: ObserverLab) -> None:
    ours, other = Authority("ours"), Authority("another")
    cloud.authorities.add("another CA", other.pem)
    assert await cloud.observer.trusted_roots(TRUNK) == frozenset({sha256(other)})
    cloud.authorities.add("our CA", ours.pem)
    assert await cloud.observer.trusted_roots(TRUNK) == frozenset({sha256(other), sha256(ours)})


async def test_byoc_cloud_trusts_public_cas_whatever_the_organisation_keeps_for_its_premises() -> None:
    async with observer_lab(metabase=BYOC_CLOUD) as cloud:
        cloud.authorities.add("our CA", Authority("ours").pem)
        assert await cloud.observer.trusted_roots(TRUNK) is None


# -- access ------------------------------------------------------------------------------------------------------------


async def test_everything_there_is_nothing_missing_and_nothing_was_written(cloud: ObserverLab) -> None:
    before = cloud.authorities.all
    assert await cloud.observer.check_access(TRUNK) == ()
    await cloud.observer.trusted_roots(TRUNK)
    login, *asked = cloud.asked()
    assert login == "POST token 200"
    assert all(one.startswith("GET ") for one in asked)
    assert cloud.authorities.all == before


@pytest.mark.parametrize(
    ("changes", "trunk", "said"),
    [
        ({"secret": "another"}, TRUNK, "the credentials are not accepted"),
        ({"permissions": ()}, TRUNK, "telephony:plugin:all"),
        ({}, "00000000-0000-0000-0000-000000000000", "The requested trunk could not be found."),
    ],
    ids=["wrong secret", "no permission", "no such trunk"],
)
async def test_what_is_missing_is_told_in_words(changes: dict[str, Any], trunk: str, said: str) -> None:
    async with observer_lab(**changes) as cloud:
        (problem,) = await cloud.observer.check_access(trunk)
        assert said in problem
        assert problem.startswith("[observers.byoc] ")
        assert SECRET not in problem


async def test_a_token_that_has_expired_is_replaced_within_the_look(cloud: ObserverLab) -> None:
    await cloud.observer.trunk(TRUNK)
    cloud.tokens.expire_all()
    assert (await cloud.observer.trunk(TRUNK)).connected
    assert cloud.asked()[3:] == [f"GET {TRUNK} 401", "POST token 200", *READS]


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, Throttled), (500, ServerFailed)],
)
async def test_an_api_that_refuses_for_a_while_is_an_error_that_a_retry_may_mend(
    cloud: ObserverLab, status: int, error: type[RotatorError]
) -> None:
    cloud.faults.status = status
    with pytest.raises(error) as refused:
        await cloud.observer.trunk(TRUNK)
    assert refused.value.retryable
    if isinstance(refused.value, Throttled):
        assert refused.value.retry_after_s == 1.0
    cloud.faults.status = None
    assert (await cloud.observer.trunk(TRUNK)).connected


async def test_an_api_that_is_gone_is_unreachable() -> None:
    observer = observer_of(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable):
        await observer.trunk(TRUNK)
    await observer.close()


async def test_a_trunk_that_does_not_exist_is_refused(cloud: ObserverLab) -> None:
    with pytest.raises(RequestRefused, match="The requested trunk could not be found"):
        await cloud.observer.trunk("another")


async def test_a_permission_that_is_missing_is_told() -> None:
    async with observer_lab(permissions=("telephony:phone:view",)) as other:
        with pytest.raises(PermissionMissing):
            await other.observer.trusted_roots(TRUNK)


async def test_a_login_that_is_refused_later_is_told(cloud: ObserverLab, monkeypatch: pytest.MonkeyPatch) -> None:
    await cloud.observer.trunk(TRUNK)
    monkeypatch.setenv("TEST_OBSERVER_SECRET", "changed")
    cloud.tokens.expire_all()
    with pytest.raises(CredentialsRefused):
        await cloud.observer.trunk(TRUNK)


# -- answers that are none ---------------------------------------------------------------------------------------------

TRUNK_ANSWER: dict[str, Any] = {
    "id": TRUNK,
    "name": "SBC",
    "connectedStatus": {"connected": True, "connectedStateTime": "2026-11-23T12:00:00Z"},
    "optionsEnabledStatus": "ENABLED",
    "optionsStatus": [{"proxyAddress": EAST, "optionState": True}],
    "aFieldOfNextYear": {"x": [1]},
}
METRICS_ANSWER: dict[str, Any] = {"eventTime": "2026-11-23T12:00:01.5Z", "trunk": {"id": TRUNK}, "calls": {}}


def answering(trunk: Any = TRUNK_ANSWER, metrics: Any = METRICS_ANSWER, **others: Any) -> httpx.MockTransport:
    """An API with these answers; `others` by path, with `_` for every character that a name cannot have."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            return httpx.Response(200, json={"access_token": "t", "token_type": "bearer", "expires_in": 86400})
        if request.url.path.endswith("/certificateauthorities"):
            pages: Callable[[httpx.Request], Any] = others["pages"]
            return httpx.Response(200, json=pages(request))
        body = metrics if request.url.path.endswith("/metrics") else trunk
        return httpx.Response(200, json=body, headers=others.get("headers", {}))

    return httpx.MockTransport(answer)


async def test_fields_of_next_year_are_ignored_and_what_may_be_absent_is_absent() -> None:
    headers = {"Date": "Mon, 23 Nov 2026 12:00:03 GMT"}
    seen = await observer_of("http://api", transport=answering(headers=headers)).trunk(TRUNK)
    assert seen.pings == (Pinged(address=EAST, answered=True),)
    assert (seen.inbound_calls, seen.outbound_calls) == (None, None)
    assert seen.heard_at == datetime(2026, 11, 23, 12, 0, 1, 500_000, tzinfo=UTC)
    assert seen.clock == datetime(2026, 11, 23, 12, 0, 3, tzinfo=UTC)


async def test_a_report_without_its_time_stays_without_one() -> None:
    seen = await observer_of("http://api", transport=answering(metrics={})).trunk(TRUNK)
    assert seen.heard_at is None


def without(path: str) -> dict[str, Any]:
    """The trunk's answer without the field at that path."""
    head, _, rest = path.partition(".")
    if not rest:
        return {name: value for name, value in TRUNK_ANSWER.items() if name != head}
    inner = {name: value for name, value in TRUNK_ANSWER[head].items() if name != rest}
    return {**TRUNK_ANSWER, head: inner}


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"trunk": without("connectedStatus")}, "connectedStatus"),
        ({"trunk": without("connectedStatus.connected")}, r"connectedStatus\.connected"),
        ({"trunk": {**TRUNK_ANSWER, "connectedStatus": {"connected": "yes"}}}, r"connectedStatus\.connected"),
        ({"trunk": {**TRUNK_ANSWER, "optionsStatus": [{"proxyAddress": EAST}]}}, r"optionsStatus\.0\.optionState"),
        ({"trunk": without("name")}, "name"),
        ({"trunk": {**TRUNK_ANSWER, "id": "another"}}, "not the trunk that was asked for; seen: trunk another"),
        ({"metrics": {**METRICS_ANSWER, "trunk": {"id": "another"}}}, "not the trunk that was asked for"),
        ({"metrics": {**METRICS_ANSWER, "eventTime": "2026-11-23T12:00:01"}}, "eventTime"),
        ({"metrics": {"calls": {"inboundCallCount": -1}}}, r"calls\.inboundCallCount"),
        ({"metrics": []}, "the shape of its contract"),
    ],
)
async def test_an_answer_without_what_an_observer_needs_is_no_answer(answers: dict[str, Any], said: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=said):
        await observer_of("http://api", transport=answering(**answers)).trunk(TRUNK)


def entry(**changes: Any) -> dict[str, Any]:
    return {"id": "ca-1", "certificate": Authority("root").pem, "state": "active", **changes}


async def test_what_is_not_active_or_not_readable_trusts_nobody() -> None:
    good = Authority("good")
    entities = [
        entry(id="1", certificate=good.pem.replace("\n", "\r\n")),
        entry(id="2", state="deleted"),
        entry(id="3", certificate="-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----"),
        entry(id="4", certificate=None),
    ]
    transport = answering(pages=lambda request: {"entities": entities, "total": 4})
    assert await observer_of("http://api", transport=transport).trusted_roots(TRUNK) == frozenset({sha256(good)})


@pytest.mark.parametrize("circle", [False, True], ids=["cut short", "links in a circle"])
async def test_a_list_that_is_not_complete_shows_no_absence(circle: bool) -> None:
    asked: list[str] = []

    def pages(request: httpx.Request) -> dict[str, Any]:
        asked.append(str(request.url))
        return {"entities": [entry()], "total": 2, "nextUri": f"{AUTHORITIES}?pageNumber=1" if circle else None}

    with pytest.raises(UnexpectedAnswer, match=r"not complete; seen: 1 of 2"):
        await observer_of("http://api", transport=answering(pages=pages)).trusted_roots(TRUNK)
    assert len(asked) == (MOST_PAGES if circle else 1)


async def test_a_link_to_somewhere_else_is_not_followed_with_our_token() -> None:
    hosts: set[str] = set()

    def pages(request: httpx.Request) -> dict[str, Any]:
        hosts.add(request.url.host)
        return {"entities": [entry()], "total": 1, "nextUri": f"https://elsewhere.example{AUTHORITIES}"}

    await observer_of("http://api", transport=answering(pages=pages)).trusted_roots(TRUNK)
    assert hosts == {"api"}
