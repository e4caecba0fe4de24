"""Whether a chain and its key would be served well, by an edge that takes whatever it is given.

HAProxy and Kamailio accept a chain without its intermediates, and one that has expired; carriers do not. What B must be
for a rotation is asked at ISSUE (domain/certificate_rules.py); this is what holds for any certificate, before a file is
written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from domain.certificate_path import issued, leaf_defect, signing_defect, trust_path, valid_at
from domain.certificates import public_key_sha256, spki_sha256

_KEY: Final = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.S)


def defects(
    chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], key_spki: str | None, now: datetime
) -> Mapping[str, str]:
    """What is wrong, by name of the rule; empty when the chain can be served with the key of that SPKI hash.

    `key_spki` is None where there is no key, or none that can be read.
    """
    leaf, path = chain[0], trust_path(chain, anchors, now)
    found: dict[str, str] = {}
    if key_spki is None:
        found["key"] = "there is no private key that can be read"
    elif key_spki != public_key_sha256(leaf.public_key()):
        found["key"] = "the private key belongs to another certificate"
    if path.anchor is None:
        last = path.certificates[-1]
        found["chain"] = f"{_name(last.issuer)}, which issued {_name(last.subject)}, is neither sent nor trusted"
    if any(not issued(lower, upper) for lower, upper in pairwise(chain)):
        found["order"] = "a certificate of the chain did not issue the one before it"
    unfit = [
        defect
        for below, ca in enumerate(path.issuers)
        if (defect := signing_defect(ca, below, anchor=ca is path.anchor)) is not None
    ]
    if unfit:
        found["issuer"] = "; ".join(unfit)
    if (defect := leaf_defect(leaf)) is not None:
        found["leaf"] = defect
    if outdated := [one for one in (*path.certificates, *path.issuers) if not valid_at(one, now)]:
        found["validity"] = "; ".join(dict.fromkeys(_validity(one) for one in outdated))
    return found


def key_spki_sha256(content: bytes) -> str | None:
    """Hex SHA-256 over the public half of the unencrypted private key in a PEM file; None when there is none to read.

    Neither the key nor what is wrong with it is ever told.
    """
    block = _KEY.search(content)
    if block is None:
        return None
    try:
        public_key = load_pem_private_key(block[0], password=None).public_key()
        return spki_sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "(no name)"


def _validity(certificate: x509.Certificate) -> str:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"{_name(certificate.subject)} is valid from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
