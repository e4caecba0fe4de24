"""What no edge may be given, whatever it would take."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from adapters.edges.servable import defects, key_spki_sha256
from domain.certificates import public_key_sha256
from tests.adapters.trunk_leaves import NOW, TrunkLeaf, expired_leaf, root, trunk_leaf

A, B = trunk_leaf("A"), trunk_leaf("B")
ANCHORS = [root().certificate]


def chain_of(leaf: TrunkLeaf) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(leaf.chain_pem.encode())


def spki_of(leaf: TrunkLeaf) -> str:
    return public_key_sha256(leaf.certificate.public_key())


def test_a_complete_chain_with_its_key_is_good_with_or_without_the_root() -> None:
    assert defects(chain_of(A), ANCHORS, spki_of(A), NOW) == {}
    assert defects([*chain_of(A), root().certificate], ANCHORS, spki_of(A), NOW) == {}


@pytest.mark.parametrize(
    ("chain", "key", "rule", "said"),
    [
        (chain_of(A)[:1], spki_of(A), "chain", "edge test intermediate"),
        (chain_of(A), spki_of(B), "key", "belongs to another certificate"),
        (chain_of(A), None, "key", "no private key"),
        ([*chain_of(A)[:1], root().certificate, *chain_of(A)[1:]], spki_of(A), "order", "did not issue"),
        (chain_of(A)[1:], public_key_sha256(chain_of(A)[1].public_key()), "leaf", "a CA certificate"),
        (chain_of(expired_leaf()), spki_of(expired_leaf()), "validity", "trunk.example.com is valid from"),
    ],
    ids=["no intermediate", "another key", "no key", "out of order", "a CA", "expired"],
)
def test_each_defect_is_named(chain: list[x509.Certificate], key: str | None, rule: str, said: str) -> None:
    found = defects(chain, ANCHORS, key, NOW)
    assert said in found[rule]


def test_all_defects_are_told_at_once() -> None:
    later = NOW + timedelta(days=20000)
    assert set(defects(chain_of(A)[:1], [], None, later)) == {"key", "chain", "validity"}


def test_a_key_is_known_by_its_public_half_also_beside_a_chain() -> None:
    key = A.private_key.get_secret_value()
    for content in (key, A.chain_pem + key, "\ufeff# mine\n" + key):
        assert key_spki_sha256(content.encode()) == spki_of(A)
    for content in ("", A.chain_pem, key[: len(key) // 2], key.replace("\n", "\n!", 2)):
        assert key_spki_sha256(content.encode()) is None
