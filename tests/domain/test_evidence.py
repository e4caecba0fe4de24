"""The evidence chain: what enters it, and that every edit is found."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from domain.evidence import GENESIS, LONGEST_TEXT, EvidenceEntry, append, canonical, entry_digest, head, verify
from domain.gates import Finding, Verdict
from domain.phases import Phase

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvgIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
Chain = tuple[EvidenceEntry, ...]


def chain_of(*data: dict[str, Any]) -> Chain:
    chain: Chain = ()
    for number, item in enumerate(data):
        chain = append(chain, at=AT + timedelta(seconds=number), kind="gate", phase=Phase.SOAK, data=item)
    return chain


numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
chains = st.lists(st.dictionaries(st.text(), values, max_size=4), min_size=1, max_size=5).map(
    lambda items: chain_of(*items)
)


# -- what a chain is ---------------------------------------------------------------------------------------------------


def test_entries_are_numbered_and_each_names_the_hash_of_the_one_before() -> None:
    chain = chain_of({"verdict": "PASS"}, {"verdict": "FAIL"}, {})
    assert [entry.sequence for entry in chain] == [0, 1, 2]
    assert [entry.previous for entry in chain] == [GENESIS, chain[0].sha256, chain[1].sha256]
    assert head(chain) == chain[2].sha256
    assert head(()) == GENESIS
    assert verify(chain) is None
    assert verify(()) is None


def test_appending_leaves_the_chain_that_was_there_untouched() -> None:
    chain = chain_of({"verdict": "PASS"})
    longer = append(chain, at=AT, kind="approval", phase=None, data={"by": "ada"})
    assert len(chain) == 1
    assert longer[:1] == chain


@given(chains)
def test_a_chain_that_was_written_to_a_file_and_read_back_holds(chain: Chain) -> None:
    read = tuple(EvidenceEntry.model_validate_json(entry.model_dump_json()) for entry in chain)
    assert verify(read) is None


@given(chains)
def test_a_chain_that_another_json_tool_wrote_again_holds(chain: Chain) -> None:
    """Sorted, indented, and whole numbers written without their decimal point, as `jq` does."""
    text = json.dumps([json.loads(canonical(entry.model_dump(mode="json"))) for entry in chain], indent=2)
    assert verify(tuple(EvidenceEntry.model_validate(item) for item in json.loads(text))) is None


def test_the_hash_of_a_known_entry_never_changes() -> None:
    """Last year's evidence must verify with next year's program."""
    (entry,) = append((), at=AT, kind="gate", phase=Phase.VERIFY, data={"share": 0.9967, "seen": "600 of 602 – gut"})
    text = (
        '{"at":"2026-11-23T12:00:00.000000+00:00","data":{"seen":"600 of 602 \\u2013 gut","share":0.9967},'
        f'"kind":"gate","phase":"VERIFY","previous":"{GENESIS}","sequence":0}}'
    )
    assert entry.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_one_moment_has_one_hash_in_every_time_zone() -> None:
    berlin = AT.astimezone(timezone(timedelta(hours=1)))
    first = append((), at=AT, kind="gate", phase=None, data={})
    assert append((), at=berlin, kind="gate", phase=None, data={}) == first


# -- edits -------------------------------------------------------------------------------------------------------------

edits: dict[str, st.SearchStrategy[Any]] = {
    "sequence": st.integers(0, 100),
    "at": st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    "kind": st.text(),
    "phase": st.none() | st.sampled_from(Phase),
    "data": st.dictionaries(st.text(), values, max_size=4),
    "previous": st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    "sha256": st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
}


@given(chains, st.sampled_from(sorted(edits)), st.data())
def test_any_edit_of_one_field_is_found_at_its_entry(chain: Chain, field: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(chain) - 1))
    value = data.draw(edits[field])
    entry = chain[index]
    edited = entry.model_copy(update={field: value})
    assume(canonical(edited.model_dump(mode="json")) != canonical(entry.model_dump(mode="json")))
    assert verify((*chain[:index], edited, *chain[index + 1 :])) == index


@given(chains, st.text(), values, st.data())
def test_an_edit_inside_the_data_is_found(chain: Chain, name: str, value: Any, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(chain) - 1))
    entry = chain[index]
    assume(name not in entry.data or canonical(entry.data[name]) != canonical(value))
    edited = entry.model_copy(update={"data": {**entry.data, name: value}})
    assert verify((*chain[:index], edited, *chain[index + 1 :])) == index


@given(chains, st.data())
def test_an_edit_whose_own_hash_was_made_good_is_found_at_the_next_entry(chain: Chain, data: st.DataObject) -> None:
    assume(len(chain) > 1)
    index = data.draw(st.integers(0, len(chain) - 2))
    edited = chain[index].model_copy(update={"kind": "forged"})
    repaired = edited.model_copy(update={"sha256": entry_digest(edited)})
    assert verify((*chain[:index], repaired, *chain[index + 1 :])) == index + 1


@given(chains, st.data())
def test_a_removed_an_exchanged_and_a_repeated_entry_are_found(chain: Chain, data: st.DataObject) -> None:
    assume(len(chain) > 1)
    index = data.draw(st.integers(0, len(chain) - 2))
    assert verify(chain[:index] + chain[index + 1 :]) == index
    exchanged = (*chain[:index], chain[index + 1], chain[index], *chain[index + 2 :])
    assert verify(exchanged) == index
    assert verify((*chain[: index + 1], *chain[index:])) == index + 1


def test_an_entry_that_skips_a_number_is_found_though_its_hash_was_made_good() -> None:
    first, second = chain_of({"a": 1}, {"b": 2})
    skipped = second.model_copy(update={"sequence": 2})
    assert verify((first, skipped.model_copy(update={"sha256": entry_digest(skipped)}))) == 1


def test_a_cut_end_shows_against_the_published_head_only() -> None:
    chain = chain_of({"a": 1}, {"b": 2})
    assert verify(chain[:1]) is None
    assert head(chain[:1]) != head(chain)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.0, "0"), (0.5, "0.5"), (1e22, "1e+22"), ({"b": [2.0], "a": None}, '{"a":null,"b":[2]}')],
)
def test_a_number_has_one_canonical_text(value: Any, text: str) -> None:
    assert canonical(value) == text


def test_true_is_not_one_and_text_is_not_a_number() -> None:
    hashes = {chain_of({"value": value})[0].sha256 for value in (1, True, "1", None, [1], 0.5)}
    assert len(hashes) == 6


# -- what may enter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"key": KEY},
        {"deep": [{"er": [f"text before {KEY}"]}]},
        {KEY: "as a name"},
        {"key": KEY.replace("PRIVATE", "RSA PRIVATE")},
        {"key": KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")},
        {"key": KEY.lower()},
        {"key": "x" * 1000 + KEY},
        {"key": KEY.encode()},
        {"record": Finding.model_construct(check="upload", verdict=Verdict.PASS, seen=KEY)},
    ],
    ids=["value", "nested", "name", "RSA", "encrypted", "lower case", "behind the cut", "bytes", "in a record"],
)
def test_a_private_key_is_refused_and_not_repeated(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="private key") as refused:
        append((), at=AT, kind="upload", phase=None, data=data)
    assert "MII" not in str(refused.value).upper()
    assert refused.value.__cause__ is None


def test_a_private_key_in_the_kind_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="private key") as refused:
        append((), at=AT, kind=KEY, phase=None, data={})
    assert "MII" not in str(refused.value)


def test_a_secret_enters_as_stars() -> None:
    (entry,) = append((), at=AT, kind="upload", phase=None, data={"key": SecretStr(KEY)})
    assert entry.data == {"key": "**********"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=["NaN", "inf", "-inf"])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"share": v}], ids=["bare", "list", "mapping"])
def test_figures_that_json_does_not_have_are_refused(value: float, wrap: Any) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        append((), at=AT, kind="gate", phase=None, data={"share": wrap(value)})


def test_what_is_not_json_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON") as refused:
        append((), at=AT, kind="gate", phase=None, data={"thing": object()})
    assert "object at" not in str(refused.value)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        append((), at=AT.replace(tzinfo=None), kind="gate", phase=None, data={})
    with pytest.raises(ValidationError):
        EvidenceEntry.model_validate({**chain_of({})[0].model_dump(), "at": AT.replace(tzinfo=None)})


def test_records_times_and_enumerations_are_written_as_json() -> None:
    finding = Finding(check="handshakes", verdict=Verdict.PASS, seen="600 of 600", value=1.0)
    data = {"finding": finding, "at": AT, "phase": Phase.SOAK, "many": (1, 2)}
    (entry,) = append((), at=AT, kind="gate", phase=None, data=data)
    assert entry.data["phase"] == "SOAK"
    assert entry.data["many"] == [1, 2]
    assert entry.data["at"] == "2026-11-23T12:00:00Z"
    assert entry.data["finding"] == finding.model_dump(mode="json")


@pytest.mark.parametrize(("length", "cut"), [(LONGEST_TEXT, False), (LONGEST_TEXT + 1, True), (100_000, True)])
def test_long_texts_are_cut_wherever_they_stand_and_marked(length: int, cut: bool) -> None:
    text = "x" * length
    (entry,) = append((), at=AT, kind="note", phase=None, data={"a": text, "b": {"c": [text]}})
    inner = entry.data["b"]
    assert isinstance(inner, dict)
    assert inner["c"] == [entry.data["a"]]
    kept = entry.data["a"]
    assert isinstance(kept, str)
    assert len(kept) == min(length, LONGEST_TEXT)
    assert kept.endswith(f"… [cut from {length} characters]") is cut
    assert verify((entry,)) is None
