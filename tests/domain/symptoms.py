"""Symptoms for the tests of the diagnosis: A, B, a good fresh handshake on B, failures as the sources count them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.certificates import CertificateFacts
from domain.plan import Direction
from domain.probed import Layer, Probed, Staple, StapleState
from domain.symptoms import Failure, Symptoms, What

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
A, B = "aa" * 32, "bb" * 32


def facts(
    *, since: timedelta = timedelta(hours=24, minutes=10), left: timedelta = timedelta(days=90)
) -> CertificateFacts:
    """B's, valid since `since` ago and for `left` more."""
    return CertificateFacts(
        sha256=B,
        spki_sha256="cc" * 32,
        modulus_sha256=None,
        serial="0b",
        common_name="trunk.example.com",
        issuer="CN=issuer B",
        dns_names=("trunk.example.com",),
        ip_addresses=(),
        uris=(),
        extended_key_usage=("clientAuth", "serverAuth"),
        key_type="rsa-2048",
        signature_hash="sha256",
        not_before=NOW - since,
        not_after=NOW + left,
    )


def alert(cause: str, *, count: int = 12, on: str | None = B, reporter: str = "platform") -> Failure:
    """Handshakes from the carrier that failed."""
    return Failure(
        reporter=reporter, what=What.HANDSHAKE, cause=cause, count=count, direction=Direction.INBOUND, sha256=on
    )


def answered(status: int, *, count: int = 12, on: str | None = B, reporter: str = "carrier") -> Failure:
    """Calls of the platform that the carrier refused."""
    return Failure(
        reporter=reporter, what=What.CALL, cause=str(status), count=count, direction=Direction.OUTBOUND, sha256=on
    )


def fine(**changes: Any) -> Probed:
    """A fresh handshake that went well."""
    usual: dict[str, Any] = {
        "where": "192.0.2.1:5061",
        "leaf_sha256": B,
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "staple": Staple(state=StapleState.ABSENT),
    }
    return Probed(**{**usual, **changes})


def broken(layer: Layer, words: str = "it broke", **changes: Any) -> Probed:
    """A probe that failed."""
    return fine(layer=layer, words=words, **{"staple": None, "version": None, "cipher": None, **changes})


def symptoms(*failures: Failure, probes: tuple[Probed, ...] = (), **changes: Any) -> Symptoms:
    """At noon, with B's facts."""
    usual: dict[str, Any] = {"now": NOW, "facts": facts(), "sha256_a": A, "sha256_b": B}
    return Symptoms(failures=failures, probes=probes, **{**usual, **changes})
