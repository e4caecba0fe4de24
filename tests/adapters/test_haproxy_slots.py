"""A slot's file: what goes into it, what is refused, and the placeholder of an empty one."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters.edges.haproxy.slots import payload, placeholder, sealed, slot_file
from domain.errors import RequestRefused
from tests.adapters.trunk_leaves import TrunkLeaf, key_lines, root, trunk_leaf

A, B = trunk_leaf("A"), trunk_leaf("B")
ANCHORS = [root().certificate]


def seal(leaf: TrunkLeaf, **changes: object) -> SecretStr:
    usual = {"name": "rot-1", "chain_pem": leaf.chain_pem, "private_key": leaf.private_key, "anchors": ANCHORS}
    return sealed(**{**usual, "now": datetime.now(UTC), "where": "node", **changes})  # type: ignore[arg-type]


def test_a_slot_holds_name_chain_and_key_and_is_read_again() -> None:
    content = seal(A).get_secret_value()
    assert content.startswith("# rotation: rot-1\n-----BEGIN CERTIFICATE-----")
    found = slot_file(content.encode())
    assert (found.name, found.leaf, len(found.chain), found.is_placeholder) == ("rot-1", A.sha256, 2, False)
    assert found.defects(ANCHORS, datetime.now(UTC)) == {}
    assert not any(line in repr(found) for line in key_lines(A))


def test_the_command_line_gets_pem_alone_without_an_empty_line() -> None:
    end = "-----END CERTIFICATE-----\n"
    chain_pem = A.chain_pem.replace(end, f"{end}\n").replace("\n", "\r\n")
    key = SecretStr(A.private_key.get_secret_value().replace("\n", "\r\n") + "\r\n\r\n")
    lines = payload(seal(A, chain_pem=chain_pem, private_key=key)).get_secret_value().split("\n")
    assert all(line and line == line.strip() for line in lines)
    assert not any(line.startswith("#") for line in lines)
    assert lines[-1] == "-----END PRIVATE KEY-----"


LATER = datetime.now(UTC) + timedelta(days=365)
LEAF_ONLY = A.chain_pem.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
BAD: dict[str, tuple[dict[str, object], str]] = {
    "leaf only": ({"chain_pem": LEAF_ONLY}, "neither sent nor trusted"),
    "another root": ({"anchors": [trunk_leaf("B").certificate]}, "neither sent nor trusted"),
    "key of another": ({"private_key": B.private_key}, "belongs to another"),
    "expired": ({"now": LATER}, "is valid from"),
    "no chain": ({"chain_pem": ""}, "no PEM certificate"),
    "truncated": ({"chain_pem": A.chain_pem[:300]}, "PEM"),
    "key in the chain": ({"chain_pem": A.chain_pem + A.private_key.get_secret_value()}, "private key"),
    "no key": ({"private_key": SecretStr("")}, "no private key"),
    "half a key": ({"private_key": SecretStr(A.private_key.get_secret_value()[:150])}, "no private key"),
    "two lines of name": ({"name": "rot\nserver three 192.0.2.1"}, "printable"),
    "no name": ({"name": " "}, "printable"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_could_not_be_served_is_refused_without_showing_the_key(what: str) -> None:
    changes, why = BAD[what]
    with pytest.raises(RequestRefused) as refused:
        seal(A, **changes)
    assert why in str(refused.value)
    assert not any(line in str(refused.value) + repr(refused.value.__cause__) for line in key_lines(A))


def test_what_does_not_fit_into_haproxys_buffer_is_refused() -> None:
    with pytest.raises(RequestRefused, match="HAProxy takes 15000"):
        seal(A, name="x" * 15_000)


def test_a_placeholder_serves_nobody_and_is_another_each_time() -> None:
    first, second = placeholder(), placeholder()
    found = slot_file(first.get_secret_value().encode())
    assert found.is_placeholder
    assert found.leaf is None
    assert found.sha1 != slot_file(second.get_secret_value().encode()).sha1
    assert found.chain[0].not_valid_after_utc > datetime.now(UTC) + timedelta(days=3000)
    assert first.get_secret_value() not in repr(first)


def test_the_placeholder_of_the_readme_is_known_as_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "deploy" / "haproxy" / "README.md").read_text()
    command = text[text.index("openssl req -x509") :].partition("\n   cat empty.crt")[0].replace("\\\n", " ")
    made = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert slot_file((tmp_path / "empty.crt").read_bytes() + (tmp_path / "empty.key").read_bytes()).is_placeholder


def test_a_file_that_cannot_be_read_holds_no_leaf() -> None:
    cut_off = A.chain_pem.replace("M", "-", 3).encode()
    for content in (b"", b"an operator's note\n", A.chain_pem[:200].encode(), cut_off, b"\x00\xff" * 50):
        found = slot_file(content)
        assert (found.leaf, found.sha1, found.chain, found.is_placeholder) == (None, None, (), False)


def test_a_file_of_an_operator_has_no_name() -> None:
    assert slot_file((A.chain_pem + A.private_key.get_secret_value()).encode()).name is None
