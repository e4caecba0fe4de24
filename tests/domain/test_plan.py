"""Plans: what is accepted, and how a refusal names the field, the line and the nearest key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from domain.errors import PlanInvalid
from domain.plan import (
    Direction,
    Duration,
    KeyType,
    Plan,
    Thresholds,
    Topology,
    duration_text,
    load_plan,
    parse_plan,
)
from tests.domain.plans import PLAN, SEPARATE_TARGETS, plan, plan_text

DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)
ENDPOINT = PLAN[PLAN.index("[[endpoints]]") : PLAN.index("[thresholds]")]


def problems(*changes: tuple[str, str]) -> list[str]:
    """The sentences of the refusal."""
    with pytest.raises(PlanInvalid) as refused:
        parse_plan(plan_text(*changes), "east.toml")
    first, *sentences = refused.value.what.splitlines()
    assert first == "the plan is not valid:"
    assert refused.value.where == "east.toml"
    return [sentence.strip() for sentence in sentences]


def line_of(text: str, changed: str) -> int:
    return text[: text.index(changed)].count("\n") + 1


# -- what is accepted --------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_guides_figures() -> None:
    accepted = plan()
    assert accepted.thresholds == Thresholds(success=0.995, breach=0.98, adopt_share=0.85, minimum_sample=600)
    timings = accepted.timings
    assert (timings.overlap, timings.soak, timings.hold) == (
        timedelta(hours=72),
        timedelta(minutes=15),
        timedelta(hours=24),
    )
    assert accepted.tls.retransmission_timeout == timedelta(seconds=30)
    assert accepted.certificate.key_type is KeyType.RSA_2048
    assert accepted.approvals.prefer
    assert accepted.approvals.remove
    assert accepted.endpoints[0].nodes[0].port == 5061
    assert accepted.endpoints[0].topology is Topology.SAME_LISTENER


def test_a_plan_survives_its_way_through_a_payload_and_keeps_its_fingerprint() -> None:
    accepted = plan(*SEPARATE_TARGETS)
    again = Plan.model_validate_json(accepted.model_dump_json())
    assert again == accepted
    assert again.sha256 == accepted.sha256


def test_the_fingerprint_is_of_the_content_and_not_of_its_spelling() -> None:
    assert plan(('overlap = "72h"', 'overlap = "3d"')).sha256 == plan().sha256
    assert plan(('overlap = "72h"', 'overlap = "73h"')).sha256 != plan().sha256


def test_a_plan_is_not_changed_after_its_validation() -> None:
    with pytest.raises(ValidationError):
        plan().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("role", "directions"),
    [
        ("server", (Direction.INBOUND,)),
        ("client", (Direction.OUTBOUND,)),
        ("mutual", (Direction.INBOUND, Direction.OUTBOUND)),
    ],
)
def test_the_directions_follow_from_the_trunks_role(role: str, directions: tuple[Direction, ...]) -> None:
    assert plan(('carrier = "acme"', f'carrier = "acme"\nrole = "{role}"')).endpoints[0].directions == directions


def test_an_endpoint_is_found_by_its_name() -> None:
    assert plan().endpoint("east").trunk == "edge-1/trunk-1"
    with pytest.raises(KeyError):
        plan().endpoint("west")


# -- durations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("72h", timedelta(hours=72)),
        ("15m", timedelta(minutes=15)),
        ("30s", timedelta(seconds=30)),
        ("500ms", timedelta(milliseconds=500)),
        ("1d", timedelta(days=1)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        ("P3D", timedelta(days=3)),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, duration: timedelta) -> None:
    assert DURATION.validate_python(text) == duration


@pytest.mark.parametrize(
    "value", ["", "72", "h", "72 hours", "-5m", "5x", "5m later", "1e3s", "Pxx", "99999999999d", 72, 1.5, True, None]
)
def test_what_has_no_unit_or_no_sense_is_no_duration(value: Any) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(value)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(hours=72), "72h"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(seconds=61), "1m1s"),
        (timedelta(milliseconds=1500), "1500ms"),
        (timedelta(microseconds=400), "0.400ms"),
        (timedelta(0), "0s"),
    ],
)
def test_a_duration_is_written_as_a_plan_writes_it(duration: timedelta, text: str) -> None:
    assert duration_text(duration) == text


@given(st.timedeltas(timedelta(0), timedelta(days=3650)))
def test_a_duration_that_is_written_and_read_again_is_the_same(duration: timedelta) -> None:
    assert DURATION.validate_python(duration_text(duration)) == duration
    assert DURATION.validate_json(DURATION.dump_json(duration)) == duration


# -- refusals ----------------------------------------------------------------------------------------------------------

CERTIFICATE = 'custody = "vault"'
TRUNK = 'carrier = "acme"'

REFUSALS: list[tuple[str, tuple[str, str], str, str]] = [
    # what is wrong, the change, the field and its words, the text whose line is named
    ("unknown key", ("success =", "sucess ="), "thresholds.sucess: unknown key; did you mean 'success'?", "sucess"),
    ("unknown table", ("[timings]", "[timing]"), "timing: unknown key; did you mean 'timings'?", "[timing]"),
    (
        "unknown key in an endpoint",
        (TRUNK, TRUNK + '\ntoplogy = "static_ip"'),
        "endpoints[0].toplogy: unknown key; did you mean 'topology'?",
        "toplogy",
    ),
    (
        "unknown key in the second node",
        ('"198.51.100.2"', '"198.51.100.2"\nprot = 5061'),
        "endpoints[0].nodes[1].prot: unknown key; did you mean 'port'?",
        "prot = 5061",
    ),
    (
        "nothing like it",
        ("[notifications]", "[notifications]\nxyzzy = 1"),
        "notifications.xyzzy: unknown key; valid keys: carrier, operations",
        "xyzzy",
    ),
    ("missing key", ('fqdn = "trunk.example.com"\n', ""), "endpoints[0].fqdn: missing", "[[endpoints]]"),
    ("missing table", ('[notifications]\noperations = "ops"\n', ""), "notifications: missing", ""),
    (
        "port out of range",
        ('"198.51.100.2"', '"198.51.100.2"\nport = 70000'),
        "endpoints[0].nodes[1].port: Input should be less than or equal to 65535, seen 70000",
        "port = 70000",
    ),
    (
        "share above one",
        ("0.995", "99.5"),
        "thresholds.success: Input should be less than or equal to 1, seen 99.5",
        "success = 99.5",
    ),
    (
        "share that is none",
        ("0.995", "nan"),
        "thresholds.success: Input should be less than or equal to 1, seen nan",
        "success = nan",
    ),
    (
        "duration without unit",
        ('"72h"', "72"),
        "timings.overlap: 72 is not a duration; write for example 72h, 15m, 30s or 500ms, seen 72",
        "overlap = 72",
    ),
    (
        "no time at all",
        ('"72h"', '"0s"'),
        "timings.overlap: Input should be greater than 0s, seen '0s'",
        "overlap",
    ),
    ("capital letters in the name", ('"east-2026"', '"East"'), "name: String should match pattern", "name ="),
    ("no peers", ('["192.0.2.10"]', "[]"), "endpoints[0].peers: Tuple should have at least 1 item", "peers ="),
    (
        "an address that is none",
        (CERTIFICATE, CERTIFICATE + '\nip_addresses = ["192.0.2.999"]'),
        "certificate: '192.0.2.999' does not appear to be an IPv4 or IPv6 address",
        "[certificate]",
    ),
    (
        "an unknown key type",
        (CERTIFICATE, CERTIFICATE + '\nkey_type = "rsa-1024"'),
        "certificate.key_type: Input should be 'rsa-2048', 'rsa-3072' or 'ec-p256', seen 'rsa-1024'",
        "key_type",
    ),
    (
        "breach above success",
        ("success = 0.995", "success = 0.995\nbreach = 0.995"),
        "thresholds: breach must lie below success, or a gate could pass while the guard turns back",
        "[thresholds]",
    ),
    (
        "window limit below the window",
        ('"72h"', '"72h"\nguard_window = "20m"'),
        "timings: guard_window_limit must not be shorter than guard_window",
        "[timings]",
    ),
    (
        "separate targets without the table",
        (TRUNK, TRUNK + '\ntopology = "separate_srv_targets"'),
        "endpoints[0]: topology separate_srv_targets needs the table [endpoints.srv]",
        "[[endpoints]]",
    ),
    (
        "a table for another topology",
        ("[thresholds]", SEPARATE_TARGETS[2][1].partition("\n\n")[2] + "\n[thresholds]"),
        "endpoints[0]: [endpoints.srv] is for topology separate_srv_targets, not same_listener",
        "[[endpoints]]",
    ),
    (
        "an RC4 suite",
        ("[thresholds]", '[tls]\ncipher_suites = ["TLS_ECDHE_RSA_WITH_RC4_128_SHA"]\n[thresholds]'),
        "tls: TLS_ECDHE_RSA_WITH_RC4_128_SHA is refused: guide section 3 asks for ECDHE with AES-GCM",
        "[tls]",
    ),
    (
        "a DES suite",
        ("[thresholds]", '[tls]\ncipher_suites = ["TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"]\n[thresholds]'),
        "tls: TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA is refused",
        "[tls]",
    ),
    (
        "no forward secrecy",
        ("[thresholds]", '[tls]\ncipher_suites = ["TLS_RSA_WITH_AES_128_GCM_SHA256"]\n[thresholds]'),
        "tls: TLS_RSA_WITH_AES_128_GCM_SHA256 is refused",
        "[tls]",
    ),
    (
        "an OpenSSL name",
        ("[thresholds]", '[tls]\ncipher_suites = ["ECDHE-RSA-AES128-GCM-SHA256"]\n[thresholds]'),
        "tls: 'ECDHE-RSA-AES128-GCM-SHA256' is not an IANA cipher suite name (TLS_…)",
        "[tls]",
    ),
    ("the same endpoint twice", (ENDPOINT, ENDPOINT * 2), "plan: endpoint names must differ", ""),
    (
        "the same trunk twice",
        (ENDPOINT, ENDPOINT + ENDPOINT.replace('name = "east"', 'name = "west"')),
        "plan: two endpoints name the same trunk of the same platform",
        "",
    ),
]


@pytest.mark.parametrize(
    ("change", "words", "line"), [refusal[1:] for refusal in REFUSALS], ids=[refusal[0] for refusal in REFUSALS]
)
def test_a_refusal_names_the_field_its_line_what_was_seen_and_the_nearest_key(
    change: tuple[str, str], words: str, line: str
) -> None:
    field, _, rest = words.partition(": ")
    place = f"{field} (line {line_of(plan_text(change), line)})" if line else field
    (sentence,) = problems(change)
    assert sentence.startswith(f"{place}: {rest}")


SRV_REFUSALS = [
    ('target_b = "b.trunk.example.com"', 'target_b = "a.trunk.example.com"', "target_a and target_b must differ"),
    (
        'target_b = "b.trunk.example.com"',
        'target_b = "c.trunk.example.com"',
        "no node has target = c.trunk.example.com, which [endpoints.srv] names",
    ),
    (
        'dns = "corp-dns"',
        'dns = "corp-dns"\npreferred_priority = 20',
        "preferred_priority must be lower than other_priority: SRV prefers the lowest (RFC 2782)",
    ),
    ('topology = "separate', 'role = "mutual"\ntopology = "separate', "separate_srv_targets works with role = server"),
]


@pytest.mark.parametrize(("old", "new", "words"), SRV_REFUSALS, ids=["equal", "no node", "priorities", "role"])
def test_srv_targets_that_cannot_work_are_refused(old: str, new: str, words: str) -> None:
    text = plan_text(*SEPARATE_TARGETS)
    assert text.count(old) == 1
    with pytest.raises(PlanInvalid) as refused:
        parse_plan(text.replace(old, new))
    assert words in str(refused.value)


def test_all_problems_are_reported_at_once() -> None:
    found = problems(("success =", "sucess ="), ('"72h"', '"soon"'), ('"198.51.100.2"', '"198.51.100.2"\nport = 0'))
    assert [sentence.split(" ")[0] for sentence in found] == [
        "endpoints[0].nodes[1].port",
        "thresholds.sucess",
        "timings.overlap",
    ]


def test_the_line_of_a_later_endpoints_node_is_its_own() -> None:
    second = ENDPOINT.replace('name = "east"', 'name = "west"').replace("trunk-1", "trunk-2")
    second = second.replace('address = "198.51.100.2"', 'address = "198.51.100.2"\nport = 0')
    text = plan_text((ENDPOINT, ENDPOINT + second))
    with pytest.raises(PlanInvalid) as refused:
        parse_plan(text)
    assert f"endpoints[1].nodes[1].port (line {line_of(text, 'port = 0')}): " in str(refused.value)


def test_a_problem_in_an_inline_table_names_the_line_on_which_it_begins() -> None:
    nodes = ENDPOINT[ENDPOINT.index("[[endpoints.nodes]]") :]
    text = plan_text((nodes, ""), (TRUNK, TRUNK + '\nnodes = [{ address = "198.51.100.1", port = 0 }]'))
    with pytest.raises(PlanInvalid) as refused:
        parse_plan(text)
    assert f"endpoints[0].nodes[0].port (line {line_of(text, 'nodes = [')}): " in str(refused.value)


def test_text_that_is_not_toml_is_refused_with_its_place() -> None:
    with pytest.raises(PlanInvalid, match=r"east\.toml: not valid TOML: .*line 1"):
        parse_plan("name = \n", "east.toml")


def test_a_plan_is_loaded_from_a_file_and_a_missing_or_binary_one_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "east.toml"
    with pytest.raises(PlanInvalid, match=r"east\.toml: cannot be read"):
        load_plan(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PlanInvalid, match=r"east\.toml: cannot be read"):
        load_plan(file)
    file.write_text(PLAN, encoding="utf-8")
    assert load_plan(file) == plan()
