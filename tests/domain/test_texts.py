"""Texts from outside: cut to a stated length, without a private key, lists named by their first members."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.errors import LONGEST_PART, CertificateRefused, RequestRefused, Throttled
from domain.gates import Finding, Verdict
from domain.texts import LONGEST, listed, readable

KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIGsecretsecret\n-----END EC PRIVATE KEY-----"


@given(st.text(max_size=300), st.integers(40, 120))
def test_a_text_is_never_longer_than_its_limit_and_a_short_one_is_left_as_it_is(text: str, limit: int) -> None:
    seen = readable(text, limit)
    assert len(seen) <= limit
    if len(text) <= limit:
        assert seen == text
    else:
        assert seen.endswith(f"[cut from {len(text)} characters]")


@given(st.integers(0, 2000), st.integers(0, 3000))
def test_no_part_of_a_private_key_is_left_wherever_it_stands_and_however_it_is_cut(before: int, after: int) -> None:
    for key in (KEY, KEY.replace("EC ", ""), KEY[:60]):
        seen = readable("x" * before + key + "y" * (after if key.endswith("-----") else 0), 100)
        assert "secret" not in seen
        assert "MHc" not in seen


def test_five_megabytes_become_one_line_that_says_so() -> None:
    seen = readable("<html>" + "e" * 5_000_000)
    assert len(seen) == LONGEST
    assert seen.startswith("<html>eee")
    assert seen.endswith("… [cut from 5000006 characters]")


def test_a_list_is_named_by_its_first_members_and_the_number_of_the_others() -> None:
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a, b"
    assert listed((f"10.0.{n // 256}.{n % 256}" for n in range(20_000)), 2) == "10.0.0.0, 10.0.0.1 and 19998 more"


def test_an_error_of_an_adapter_keeps_what_to_do_however_much_was_seen() -> None:
    for error in (
        RequestRefused("refused", where="w" * 9000, seen="s" * 5_000_000, action="grant it"),
        Throttled("later", retry_after_s=1.0, seen=KEY + "s" * 5_000_000, action="grant it"),
    ):
        assert str(error).endswith("do: grant it")
        assert len(str(error)) < 3 * LONGEST_PART
        assert "secret" not in str(error)
    refused = CertificateRefused("B", violations={f"rule {n}": "v" * 1000 for n in range(1000)})
    assert len(str(refused)) < 2 * LONGEST_PART


def test_a_finding_holds_a_readable_text_whoever_filled_it() -> None:
    finding = Finding(check="c", verdict=Verdict.ERROR, seen="s" * 5_000_000 + KEY, expected=KEY)
    assert len(finding.model_dump_json()) < 2000
    assert finding.expected == "[private key removed]"
