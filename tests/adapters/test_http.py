"""What every adapter over HTTP gets from `Http`: typed failures that name the way out and never a secret."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from adapters.http import Http, url_of
from adapters.http_failures import TEXT_LIMIT, retry_after_s
from adapters.wire_time import same_moment, utc_text
from domain.errors import (
    ConcurrentEdit,
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    Throttled,
    UnexpectedAnswer,
    Unreachable,
)
from settings import HttpProfile
from tests.adapters.trunk_leaves import key_lines, trunk_leaf

NOW = datetime(2026, 11, 23, 18, 40, tzinfo=UTC)


class Shape(BaseModel):
    count: int
    name: str


def http(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **profile: Any) -> Http:
    """`Http` in front of one answer."""
    handler = answer if callable(answer) else lambda request: answer
    settings = HttpProfile.model_validate({"base_url": "https://api.example.com", **profile})
    return Http("[platforms.eu]", settings, transport=httpx.MockTransport(handler), clock=lambda: NOW)


async def failure_of(answer: httpx.Response, **sent: Any) -> RotatorError:
    """The failure that a GET of /things gets for the answer."""
    with pytest.raises(RotatorError) as raised:
        await http(answer).send("GET", "https://api.example.com/things", **sent)
    return raised.value


@pytest.mark.parametrize(
    ("status", "headers", "expected", "retryable"),
    [
        (400, {}, RequestRefused, False),
        (401, {}, CredentialsRefused, False),
        (403, {}, PermissionMissing, False),
        (404, {}, RequestRefused, False),
        (408, {}, ServerFailed, True),
        (409, {}, ConcurrentEdit, True),
        (422, {}, RequestRefused, False),
        (428, {}, RequestRefused, False),
        (429, {"Retry-After": "7"}, Throttled, True),
        (429, {}, Throttled, True),
        (500, {}, ServerFailed, True),
        (502, {}, ServerFailed, True),
        (503, {}, ServerFailed, True),
        (503, {"Retry-After": "7"}, Throttled, True),
        (302, {"Location": "https://elsewhere.example.com/"}, UnexpectedAnswer, True),
    ],
)
async def test_a_status_becomes_the_failure_that_says_whether_a_retry_helps(
    status: int, headers: dict[str, str], expected: type[RotatorError], retryable: bool
) -> None:
    failure = await failure_of(httpx.Response(status, headers=headers, json={"code": "x"}))
    assert type(failure) is expected
    assert failure.retryable is retryable
    assert str(status) in str(failure)
    assert "GET https://api.example.com/things" in failure.where


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            {"message": "the name is taken", "code": "certificate.name.conflict", "status": 400, "contextId": "c-1"},
            "400 certificate.name.conflict: the name is taken (trace c-1)",
        ),
        (
            {"error": "InvalidChain", "error_description": "no path to a root", "traceId": "t-9"},
            "400 InvalidChain: no path to a root (trace t-9)",
        ),
        ({"error": "unknown trunk"}, "400 unknown trunk"),
        ({"anything": "else"}, '400 {"anything":"else"}'),
    ],
)
async def test_an_error_repeats_the_platforms_own_words(body: dict[str, object], shown: str) -> None:
    assert (await failure_of(httpx.Response(400, json=body))).seen == shown


async def test_an_error_body_that_is_no_json_is_shown_on_one_short_line() -> None:
    failure = await failure_of(httpx.Response(502, text="<html>\n<h1>Bad gateway</h1>\n" + "x " * 2000))
    assert failure.seen.startswith("502 <html> <h1>Bad gateway</h1> x x")
    assert len(failure.seen) <= TEXT_LIMIT


async def test_user_password_and_query_of_a_url_are_not_shown() -> None:
    with pytest.raises(ServerFailed) as raised:
        await http(httpx.Response(500)).send("GET", "https://me:hush@api.example.com/things", params={"token": "hush"})
    assert "hush" not in str(raised.value)
    assert "https://api.example.com/things" in str(raised.value)


async def test_a_key_that_the_server_echoes_is_not_in_the_error() -> None:
    leaf = trunk_leaf("B")
    pem_text = leaf.private_key.get_secret_value()
    echoes = [
        httpx.Response(400, json={"message": f"cannot parse {pem_text}", "code": "bad"}),
        httpx.Response(400, text=f'{{"privateKey": "{pem_text.replace(chr(10), chr(92) + "n")}"'),
        httpx.Response(400, text=pem_text[:150]),
        httpx.Response(400, json={"message": "bad line " + key_lines(leaf)[0]}),
    ]
    for echo in echoes:
        failure = await failure_of(echo)
        assert not any(line in str(failure) + repr(failure) for line in key_lines(leaf))
        assert failure.__context__ is None
    shown = await failure_of(httpx.Response(400, json={"message": f"leaf {leaf.sha256} is known", "code": "bad"}))
    assert leaf.sha256 in str(shown), "a fingerprint is no secret"


async def test_a_failure_does_not_lead_back_to_the_request() -> None:
    def drop(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("no answer", request=request)

    with pytest.raises(Unreachable) as raised:
        await http(drop).send("PUT", "https://api.example.com/things", json={"privateKey": "secret"})
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None, "the exception of httpx carries the request and its body"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Mon, 23 Nov 2026 18:41:00 -0000", 60.0),
        ("99999999999999999999", 86400.0),
        ("²", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, NOW) == expected


async def test_a_throttled_answer_says_how_long_to_wait() -> None:
    for headers, seconds in (({"Retry-After": "7"}, 7.0), ({}, 1.0)):
        failure = await failure_of(httpx.Response(429, headers=headers, json={}))
        assert isinstance(failure, Throttled)
        assert failure.retry_after_s == seconds


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("<html>login</html>", "body: Invalid JSON"),
        ('{"count": "12", "name": "x"}', "count: Input should be a valid integer"),
        ('{"count": 12}', "name: Field required"),
        ("[]", "body: Input should be an object"),
        ("", "body: Invalid JSON"),
    ],
)
async def test_an_answer_of_another_shape_is_refused_and_its_values_are_not_shown(body: str, named: str) -> None:
    client = http(httpx.Response(200, text=body))
    response = await client.send("GET", "https://api.example.com/things")
    with pytest.raises(UnexpectedAnswer) as raised:
        client.parse(response, Shape)
    assert named in str(raised.value)
    assert "login" not in str(raised.value)
    assert raised.value.__context__ is None


async def test_unknown_fields_of_an_answer_are_ignored() -> None:
    client = http(httpx.Response(200, json={"count": 1, "name": "x", "new": True}))
    assert client.parse(await client.send("GET", "https://api.example.com/"), Shape) == Shape(count=1, name="x")


async def test_an_accepted_status_is_an_answer_and_can_still_be_told_as_a_refusal() -> None:
    client = http(httpx.Response(404, json={"code": "not.found"}))
    response = await client.send("DELETE", "https://api.example.com/things/1", accept={404})
    assert isinstance(client.refusal(response), RequestRefused)


async def test_a_request_is_sent_once() -> None:
    sent = []

    def refuse(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unreachable):
        await http(refuse).send("GET", "https://api.example.com/")
    assert len(sent) == 1


async def test_a_host_name_that_is_not_found_is_told_apart() -> None:
    def unknown(request: httpx.Request) -> httpx.Response:
        try:
            raise socket.gaierror(-2, "Name or service not known")
        except socket.gaierror as error:
            raise httpx.ConnectError("x", request=request) from error

    with pytest.raises(Unreachable, match=r"host name api\.example\.com is not found; seen: Name or service not known"):
        await http(unknown).send("GET", "https://api.example.com/")


async def test_a_url_that_is_none_is_a_matter_of_settings() -> None:
    with pytest.raises(SettingsInvalid, match="cannot be formed"):
        await http(httpx.Response(200)).send("GET", "https://api.example.com:port/")


def test_ids_are_percent_encoded_into_paths() -> None:
    assert url_of("https://x/", "/v1/{trunk}/health", trunk="a b/c?d") == "https://x/v1/a%20b%2Fc%3Fd/health"


@pytest.mark.parametrize("template", ["/v1/{tronk}", "/v1/{}", "/v1/{trunk"])
def test_a_path_with_an_unknown_id_is_refused(template: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"use only \{trunk\}"):
        url_of("https://x", template, trunk="t")


def test_times_are_written_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 23, 19, 40, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert utc_text(moment) == "2026-11-23T18:40:00.999Z"
    assert same_moment("2026-11-23T18:40:00.999Z", moment)
    assert same_moment("2026-11-23T19:40:00.999+01:00", moment)
    assert not same_moment("2026-11-23T18:40:01.000Z", moment)
    assert not same_moment("2026-11-23T18:40:00.999", moment), "no zone, no moment"
    assert not same_moment("yesterday", moment)
