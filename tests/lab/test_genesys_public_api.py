"""The stand-in for Genesys' published API: its shapes, what it refuses, and its locking by version."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from lab.api_guard import RequestLog
from lab.authorities import Authorities
from lab.byoc_trunk import ByocTrunk
from lab.faults import Faults
from lab.genesys_public_api import SERVICE, GenesysPublicApi
from lab.genesys_public_wire import AUTHORITIES, PERMISSION, TRUNK
from lab.http_service import HttpService
from lab.tokens import ApiClient, Tokens
from tests.lab.small_ca import Authority

CLIENT = ApiClient("observer", "a secret", (PERMISSION,))
TRUNK_PATH = TRUNK.format(trunk_id="trunk-9")
METRICS_PATH = f"{TRUNK_PATH}/metrics"
ROOT = Authority("Example Root")


class Organisation:
    """The API on a real port. Requests carry a good token unless told otherwise."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.trunk = ByocTrunk("trunk-9", "SBC", ["198.51.100.1:5061", "198.51.100.2:5061"])
        self.authorities, self.tokens, self.log = Authorities(), Tokens([CLIENT], 86400), RequestLog()
        self.faults = Faults("a" * 64)
        self.application = GenesysPublicApi(
            [self.trunk], self.authorities, self.tokens, self.log, self.faults
        ).application

    async def send(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.tokens.issue(CLIENT)}"}
        return await self.http.request(method, path, json=body, headers=headers)

    async def log_in(self, secret: str = CLIENT.secret, form: str = "grant_type=client_credentials") -> httpx.Response:
        basic = base64.b64encode(f"{CLIENT.id}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        return await self.http.post("/oauth/token", content=form, headers=headers)

    async def added(self, name: str = "our CA") -> dict[str, Any]:
        answer = await self.send("POST", AUTHORITIES, {"name": name, "certificate": ROOT.pem})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest.fixture
async def cloud() -> AsyncIterator[Organisation]:
    """The organisation, served."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        organisation = Organisation(http)
        service = HttpService(organisation.application)
        await service.start()
        http.base_url = service.url
        yield organisation
        await service.stop()


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The vendor's error body; its message."""
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), answer.text
    assert set(body) == {"message", "code", "status", "contextId", "details", "errors"}
    return str(body["message"])


# -- login -------------------------------------------------------------------------------------------------------------


async def test_a_login_answers_a_bearer_token_and_no_scopes(cloud: Organisation) -> None:
    answer = await cloud.log_in()
    assert set(answer.json()) == {"access_token", "token_type", "expires_in"}
    found = await cloud.send("GET", TRUNK_PATH, token=answer.json()["access_token"])
    assert found.status_code == 200


@pytest.mark.parametrize(
    ("login", "status"),
    [
        ({"secret": "another"}, 401),
        ({"form": "grant_type=password"}, 400),
        ({"form": "grant_type=client_credentials&scope=telephony"}, 400),
        ({"form": ""}, 400),
    ],
)
async def test_another_login_is_refused(cloud: Organisation, login: dict[str, str], status: int) -> None:
    answer = await cloud.log_in(**login)
    assert answer.status_code == status
    assert "access_token" not in answer.json()


async def test_without_token_and_permission_nothing_is_shown(cloud: Organisation) -> None:
    nobody = cloud.tokens.issue(ApiClient("other", "x", ("telephony:phone:view",)))
    for path in (TRUNK_PATH, METRICS_PATH, AUTHORITIES):
        refused(await cloud.http.get(path), 401, "authentication.required")
        assert PERMISSION in refused(await cloud.send("GET", path, token=nobody), 403, "missing.any.permissions")


async def test_an_expired_token_is_refused(cloud: Organisation) -> None:
    token = cloud.tokens.issue(CLIENT)
    cloud.tokens.expire_all()
    refused(await cloud.send("GET", TRUNK_PATH, token=token), 401, "authentication.required")


# -- trunks ------------------------------------------------------------------------------------------------------------


async def test_a_trunk_has_the_published_fields(cloud: Organisation) -> None:
    trunk = (await cloud.send("GET", TRUNK_PATH)).json()
    assert (trunk["state"], trunk["inService"], trunk["enabled"]) == ("active", True, True)
    assert set(trunk["connectedStatus"]) == {"connected", "connectedStateTime"}
    assert trunk["optionsEnabledStatus"] == "ENABLED"
    assert [set(one) for one in trunk["optionsStatus"]] == [{"proxyAddress", "optionState", "optionStateTime"}] * 2
    assert trunk["proxyAddressList"] == [one["proxyAddress"] for one in trunk["optionsStatus"]]
    metrics = (await cloud.send("GET", METRICS_PATH)).json()
    assert set(metrics) == {"eventTime", "logicalInterface", "trunk", "calls", "qos"}
    assert metrics["calls"] == {"inboundCallCount": 0, "outboundCallCount": 0}


async def test_a_trunk_is_connected_as_long_as_one_address_answers(cloud: Organisation) -> None:
    east, west = cloud.trunk.proxies
    since = cloud.trunk.connected[1]
    cloud.trunk.ping(east, "tls unknown_ca")
    trunk = (await cloud.send("GET", TRUNK_PATH)).json()
    assert [one["optionState"] for one in trunk["optionsStatus"]] == [False, True]
    assert trunk["optionsStatus"][0]["errorInfo"]["text"] == "tls unknown_ca"
    assert cloud.trunk.connected == (True, since)
    cloud.trunk.ping(west, "tcp refused")
    assert (await cloud.send("GET", TRUNK_PATH)).json()["connectedStatus"]["connected"] is False
    down_since = cloud.trunk.connected[1]
    cloud.trunk.ping(west, "tcp refused")
    assert cloud.trunk.connected == (False, down_since), "the time is that of the change"
    cloud.trunk.ping(west, None)
    assert cloud.trunk.connected[0]


@pytest.mark.parametrize(
    "path", [f"{TRUNK_PATH}?expand=properties", f"{METRICS_PATH}?interval=x", f"{AUTHORITIES}?name=x"]
)
async def test_what_the_sdk_cannot_send_is_refused(cloud: Organisation, path: str) -> None:
    refused(await cloud.send("GET", path), 400, "bad.request")


async def test_reads_take_no_body_and_trunks_no_writes(cloud: Organisation) -> None:
    refused(await cloud.send("GET", TRUNK_PATH, {}), 400, "bad.request")
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        refused(await cloud.send(method, TRUNK_PATH, {}), 405, "method.not.allowed")
    refused(await cloud.send("GET", TRUNK.format(trunk_id="trunk-8")), 404, "not.found")
    refused(await cloud.send("GET", "/api/v2/telephony/providers/edge/edge/e/siptrunks/t"), 404, "not.found")


async def test_a_platforms_faults_strike_here_too_under_this_services_name(cloud: Organisation) -> None:
    cloud.faults.switch("api-429", on=True)
    cloud.faults.pool_changed(["a" * 64, "b" * 64])
    answers = [await cloud.send("GET", TRUNK_PATH) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 429, 200]
    refused(answers[0], 429, "too.many.requests.retry.after")
    assert answers[0].headers["retry-after"] == "1"
    assert cloud.log.counts[SERVICE, 429] == 3


# -- certificate authorities -------------------------------------------------------------------------------------------


async def test_a_list_comes_in_pages_that_link_to_one_another(cloud: Organisation) -> None:
    for number in range(27):
        cloud.authorities.add(f"CA {number}", ROOT.pem)
    first = (await cloud.send("GET", AUTHORITIES)).json()
    assert (len(first["entities"]), first["total"], first["pageCount"]) == (25, 27, 2)
    second = (await cloud.send("GET", first["nextUri"])).json()
    assert [one["name"] for one in second["entities"]] == ["CA 25", "CA 26"]
    assert "nextUri" not in second


async def test_a_change_needs_the_version_that_was_read(cloud: Organisation) -> None:
    made = await cloud.added()
    path = f"{AUTHORITIES}/{made['id']}"
    change = {"name": "renamed", "certificate": ROOT.pem}
    assert "version" in refused(await cloud.send("PUT", path, change), 400, "bad.request")
    answer = await cloud.send("PUT", path, {**change, "version": made["version"]})
    assert (answer.status_code, answer.json()["version"]) == (200, made["version"] + 1)
    late = await cloud.send("PUT", path, {**change, "name": "late", "version": made["version"]})
    assert "at version 2" in refused(late, 409, "general.conflict")
    assert (await cloud.send("GET", path)).json()["name"] == "renamed"


async def test_an_entry_can_be_taken_out_but_not_the_vendors_own(cloud: Organisation) -> None:
    managed = cloud.authorities.add("vendor", ROOT.pem, managed=True)
    path = f"{AUTHORITIES}/{managed.id}"
    refused(await cloud.send("DELETE", path), 400, "bad.request")
    change = {"name": "ours now", "certificate": ROOT.pem, "version": 1}
    refused(await cloud.send("PUT", path, change), 400, "bad.request")
    made = await cloud.added()
    assert (await cloud.send("DELETE", f"{AUTHORITIES}/{made['id']}")).status_code == 204
    refused(await cloud.send("GET", f"{AUTHORITIES}/{made['id']}"), 404, "not.found")
    assert cloud.authorities.pem == ROOT.pem


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x"},
        {"name": "x", "certificate": "no PEM"},
        {"name": "x", "certificate": ROOT.issue("leaf.example.com").chain_pem},
        {"name": "x", "certificate": ROOT.pem, "privateKey": "x"},
        {"name": "x", "certificate": ROOT.pem, "type": "MANAGED"},
    ],
    ids=["no certificate", "no PEM", "a leaf", "a field too many", "managed"],
)
async def test_what_is_no_authority_is_refused(cloud: Organisation, body: dict[str, Any]) -> None:
    refused(await cloud.send("POST", AUTHORITIES, body), 400, "bad.request")
    assert cloud.authorities.all == ()
