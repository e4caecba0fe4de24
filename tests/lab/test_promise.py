"""Promise 1 as the lab checks it, and the faults that it is measured against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from lab.edge import Edge
from lab.faults import API_429_S, API_500_S, FAULTS, Faults
from lab.promise import PromiseCheck
from lab.trunk import Binding, RegisteredCertificate, Trunk
from lab.wire_time import now
from tests.lab.lab_pki import LabPki
from tests.lab.platform_kit import Cxone, Genesys
from tests.lab.waiting import until

A, B, C = "a" * 64, "b" * 64, "c" * 64


class Clock:
    """A clock in seconds that only a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def _anchors(*pems: str) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(pem.encode()) for pem in pems]


class Watched:
    """A trunk whose pool a test sets, with what the carrier trusts."""

    def __init__(self, platform: Genesys | Cxone, pki: LabPki) -> None:
        self.trunk = platform.trunk
        self.a = self.trunk.pool[0]
        self.anchors: Sequence[x509.Certificate] = _anchors(pki.lab.root_pem)
        self.check = PromiseCheck(lambda: self.anchors)
        self.check.watch(self.trunk)

    def bind(self, *pool: RegisteredCertificate) -> None:
        self.trunk.replace(self.trunk.settings, Binding(pool, on_primary=pool))

    @property
    def reasons(self) -> list[str]:
        return [violation.reason for violation in self.check.violations]


async def _registered(platform: Genesys, pki: LabPki) -> RegisteredCertificate:
    """B, registered and not bound."""
    b = await platform.uploaded(pki.issue())
    settings = await platform.read_trunk()
    assert (await platform.put_trunk(platform.with_pool(settings, platform.trunk.pool[0].id, b))).status_code == 200
    found = platform.trunk.pool[1]
    assert (await platform.put_trunk({**settings, "version": settings["version"] + 1})).status_code == 200
    return found


async def test_pools_with_one_good_certificate_keep_the_promise(genesys: Genesys, pki: LabPki) -> None:
    b = await _registered(genesys, pki)
    watched = Watched(genesys, pki)
    for pool in ((watched.a, b), (b, watched.a), (b,), (watched.a,)):
        watched.bind(*pool)
    assert watched.reasons == []
    assert watched.check.checks == 5


async def test_b_alone_breaks_the_promise_while_the_carrier_trusts_intermediate_a_only(
    genesys: Genesys, pki: LabPki
) -> None:
    b = await _registered(genesys, pki)
    watched = Watched(genesys, pki)
    watched.anchors = _anchors(pki.lab.intermediate_a_pem)
    watched.bind(watched.a, b)
    assert watched.reasons == []
    watched.bind(b)
    (reason,) = watched.reasons
    assert "no path to a trusted root" in reason
    watched.check.check(watched.trunk)
    assert len(watched.reasons) == 1
    watched.bind(watched.a)
    watched.bind(b)
    assert len(watched.reasons) == 2


async def test_an_expired_certificate_and_a_key_that_does_not_fit_break_the_promise(
    genesys: Genesys, pki: LabPki
) -> None:
    b = await _registered(genesys, pki)
    watched = Watched(genesys, pki)
    mismatched = replace(b, id="mismatched", served=replace(b.served, key_pem=watched.a.served.key_pem))
    watched.trunk.nodes[0].binding = Binding((mismatched,), on_primary=(mismatched,))
    watched.check.check(watched.trunk)
    assert "not the leaf's" in watched.reasons[0]

    short = pki.issue(in_use_since=timedelta(days=1), remains=timedelta(seconds=1))
    expiring = await genesys.uploaded(short, "CERT-SHORT")
    await genesys.put_trunk(genesys.with_pool(await genesys.read_trunk(), expiring))

    async def expired() -> bool:
        return now() > watched.trunk.pool[0].served.not_after

    await until(expired)
    watched.check.check(watched.trunk)
    assert watched.reasons[-1] == "nothing to serve on the primary port"


async def test_the_promise_is_looked_at_again_and_again(genesys: Genesys, pki: LabPki) -> None:
    watched = Watched(genesys, pki)
    task = asyncio.create_task(watched.check.run())

    async def looked() -> bool:
        return watched.check.checks >= 3

    await until(looked)
    watched.anchors = []

    async def broken() -> bool:
        return bool(watched.reasons)

    await until(broken)
    assert "no trust anchor" in watched.reasons[0]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_change_that_the_edge_refuses_changes_nothing(
    genesys: Genesys, pki: LabPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk: Trunk = genesys.trunk
    before = trunk.binding

    def refuse(*args: object, **options: object) -> None:
        raise ValueError("no such chain")

    monkeypatch.setattr(Edge, "serve", refuse)
    with pytest.raises(ValueError, match="no such chain"):
        trunk.replace({**trunk.settings}, Binding(before.pool, on_primary=()))
    assert trunk.binding is before


# Faults


def test_a_fault_comes_on_with_the_first_second_certificate_and_stays_on() -> None:
    faults = Faults(A, ["metrics-empty"])
    seen: list[tuple[bool, frozenset[str]]] = []
    faults.effect("invites-403", lambda on, every_b: seen.append((on, every_b)))
    faults.switch("invites-403", on=True)
    faults.pool_changed([A])
    assert faults.armed == {"metrics-empty": False, "invites-403": False}
    faults.pool_changed([A, B])
    assert faults.armed == {"metrics-empty": True, "invites-403": True}
    faults.pool_changed([A])
    assert faults.metrics_empty()
    faults.pool_changed([A, C])
    faults.switch("invites-403", on=False)
    every_b = frozenset({B, C})
    assert seen == [(True, frozenset({B})), (True, every_b), (False, every_b)]
    faults.switch("invites-403", on=True)
    assert seen[-1] == (True, every_b)


def test_only_b_is_reported_invalid_and_only_a_change_to_b_alone_is_refused() -> None:
    faults = Faults(A, ["health-invalid", "refuse-removal", "carrier-health-down"])
    faults.pool_changed([A, B])
    assert [faults.reports_invalid(leaf) for leaf in (A, B)] == [False, True]
    both, a, b = frozenset({A, B}), frozenset({A}), frozenset({B})
    assert [faults.refuses_change(*change) for change in ((both, b), (both, a), (a, both), (b, b))] == [
        True,
        False,
        False,
        False,
    ]
    assert faults.carrier_health_down()


@pytest.mark.parametrize(("name", "seconds", "status"), [("api-429", API_429_S, 429), ("api-500", API_500_S, 500)])
def test_a_failing_api_recovers_after_its_time(name: str, seconds: float, status: int) -> None:
    clock = Clock()
    faults = Faults(A, [name], clock)
    assert faults.request_fault("genesys") is None
    faults.pool_changed([A, B])
    clock.time += seconds - 0.1
    assert faults.request_fault("genesys") == status
    clock.time += 0.1
    assert faults.request_fault("genesys") is None


def test_throttling_counts_each_platform_by_itself() -> None:
    faults = Faults(A, ["api-429"], Clock())
    faults.pool_changed([A, B])
    for service in ("genesys", "cxone"):
        assert [faults.request_fault(service) for _ in range(4)] == [429, 429, 429, None]


def test_every_fault_has_one_line_that_says_what_it_does() -> None:
    assert all(description and "\n" not in description for description in FAULTS.values())
    with pytest.raises(KeyError):
        Faults(A, ["no-such-fault"])
