"""The prober and what goes with a handshake: the OCSP staple, and the offer to resume."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp
from OpenSSL import SSL

from adapters.probe.base import Layer
from adapters.probe.sessions import resumption_of
from adapters.probe.sip_tls import SipTlsProber
from adapters.probe.staples import read_staple
from domain.probed import Distrust, Resumption, StapleState
from lab import openssl_context
from lab.openssl_context import OpenSslContext
from lab.served_certificate import ServedCertificate
from lab.tls_contexts import server_context
from tests.adapters.probing import CA, FQDN, LEAF, STRANGER, TLS12, TLS13, alone, patient, target
from tests.adapters.sip_responder import Responder, listening, serving
from tests.lab.small_ca import Authority

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)
OTHER_LEAF = CA.issue(FQDN)


def certificate(served: ServedCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(served.chain_pem.encode())


def staple(
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    age: timedelta = HOUR,
    life: timedelta = 2 * HOUR,
    about: ServedCertificate = LEAF,
    signer: Authority = CA,
) -> bytes:
    """A response that was made `age` ago, for `life` from then on."""
    said = datetime.now(UTC) - age
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    return (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=certificate(about),
            issuer=CA.certificate,
            algorithm=hashes.SHA1(),
            cert_status=status,
            this_update=said,
            next_update=said + life,
            revocation_time=said if revoked else None,
            revocation_reason=x509.ReasonFlags.superseded if revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        .sign(signer.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def stapling(der: bytes | None, maximum: ssl.TLSVersion = TLS13) -> OpenSslContext:
    suites = "ECDHE-ECDSA-AES128-GCM-SHA256" if maximum is TLS12 else None
    return openssl_context.server(LEAF.identity, None, staple=der, tls12_suites=suites)


STAPLES = {
    "good": (staple(), StapleState.GOOD, ""),
    "stale": (staple(age=3 * HOUR), StapleState.STALE, ""),
    "revoked": (staple(status=ocsp.OCSPCertStatus.REVOKED), StapleState.REVOKED, ""),
    "unknown": (staple(status=ocsp.OCSPCertStatus.UNKNOWN), StapleState.UNUSABLE, "does not know the certificate"),
    "another's": (staple(about=OTHER_LEAF), StapleState.UNUSABLE, "about another certificate"),
    "a stranger's": (staple(signer=STRANGER), StapleState.UNUSABLE, "not signed by the issuer"),
    "the future's": (staple(age=-HOUR), StapleState.UNUSABLE, "from the future"),
    "garbage": (b"no OCSP at all", StapleState.UNUSABLE, "no OCSP response"),
    "try later": (
        ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
        StapleState.UNUSABLE,
        "the responder answers try_later",
    ),
}


NOT_SENT = {"another's", "garbage"}
"""OpenSSL's own server sends no staple that is not about its certificate."""


@pytest.mark.parametrize("name", STAPLES)
def test_what_a_staple_is_worth(name: str) -> None:
    der, state, detail = STAPLES[name]
    found = read_staple(der, certificate(LEAF), CA.certificate, NOW)
    assert found.state is state
    assert detail in found.detail
    assert (found.detail != "") is (state is StapleState.UNUSABLE)


@pytest.mark.parametrize("name", [name for name in STAPLES if name not in NOT_SENT])
@pytest.mark.parametrize("maximum", [TLS12, TLS13])
async def test_a_staple_is_judged_and_the_handshake_goes_on(
    prober: SipTlsProber, name: str, maximum: ssl.TLSVersion
) -> None:
    der, state, detail = STAPLES[name]
    async with listening(Responder(), stapling(der, maximum)) as responder:
        result = await prober.probe(target(responder.port))
    assert result.good
    assert result.staple is not None
    assert result.staple.state is state
    assert detail in result.staple.detail
    if state in (StapleState.GOOD, StapleState.STALE):
        assert result.staple.produced_at is not None
        assert result.staple.next_update is not None
        assert (result.staple.next_update < datetime.now(UTC)) is (state is StapleState.STALE)


@pytest.mark.parametrize("maximum", [TLS12, TLS13])
async def test_a_server_that_staples_nothing_is_seen_to(prober: SipTlsProber, maximum: ssl.TLSVersion) -> None:
    async with serving(Responder(), LEAF.identity, maximum=maximum) as responder:
        result = await prober.probe(target(responder.port))
    assert result.good
    assert result.staple is not None
    assert result.staple.state is StapleState.ABSENT
    assert result.staple.text() == "OCSP staple absent"


async def test_a_handshake_that_never_came_to_the_staple_says_nothing_of_it(prober: SipTlsProber) -> None:
    async with serving(Responder(), alone(LEAF).identity) as responder:
        result = await prober.probe(target(responder.port))
    assert (result.failed_layer, result.distrust, result.staple) == (Layer.TLS, Distrust.INCOMPLETE_CHAIN, None)
    assert result.alert is None


def test_without_an_issuer_no_staple_is_believed() -> None:
    assert read_staple(staple(), certificate(LEAF), CA.certificate, NOW).state is StapleState.GOOD
    unbelieved = read_staple(staple(), certificate(LEAF), None, NOW)
    assert unbelieved.detail == "it is not signed by the issuer or its responder"


@pytest.mark.parametrize(
    ("maximum", "tickets", "wanted"),
    [
        (TLS13, 1, Resumption(offered=True, ticket=True, lifetime_s=7200)),
        (TLS13, 0, Resumption(offered=False)),
        (TLS12, 1, Resumption(offered=True, ticket=True, lifetime_s=7200)),
    ],
)
async def test_a_ticket_is_noted_with_its_lifetime(
    prober: SipTlsProber, maximum: ssl.TLSVersion, tickets: int, wanted: Resumption
) -> None:
    async with serving(Responder(), LEAF.identity, maximum=maximum, tickets=tickets) as responder:
        result = await prober.probe(target(responder.port))
    assert result.good
    assert result.resumption == wanted
    assert responder.resumed == [False]


async def test_resumption_by_the_sessions_id_is_noted_without_a_ticket(prober: SipTlsProber) -> None:
    context = server_context(LEAF.identity)
    context.maximum_version = TLS12
    context.options |= ssl.OP_NO_TICKET
    async with listening(Responder(), context) as responder:
        result = await prober.probe(target(responder.port))
    assert result.resumption == Resumption(offered=True)
    assert result.resumption.text() == "resumption by session id offered"


async def test_a_server_that_keeps_no_session_offers_nothing(prober: SipTlsProber) -> None:
    async with listening(Responder(), stapling(None, TLS12)) as responder:
        result = await prober.probe(target(responder.port))
    assert result.good
    assert result.resumption == Resumption(offered=False)
    assert resumption_of(None) == Resumption(offered=False)


async def test_a_shorter_lifetime_of_tickets_is_what_the_server_says(prober: SipTlsProber) -> None:
    """15 minutes, as the guide wants them during a rotation."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(certificate(LEAF))
    for one in x509.load_pem_x509_certificates(LEAF.chain_pem.encode())[1:]:
        context.add_extra_chain_cert(one)
    context.use_privatekey(load_pem_private_key(LEAF.key_pem.encode(), None))
    context.set_timeout(900)
    async with listening(Responder(), OpenSslContext(context, verifies=False)) as responder:
        result = await prober.probe(target(responder.port))
    assert result.resumption == Resumption(offered=True, ticket=True, lifetime_s=900)
    assert result.resumption.text() == "session ticket offered, lifetime 900 s"


async def test_the_alert_of_the_peer_is_noted_by_name(anchors: Path) -> None:
    async with serving(Responder(), LEAF.identity, client_trust_pem=CA.pem) as responder:
        result = await patient(anchors, "20s").probe(target(responder.port))
    assert (result.failed_layer, result.alert) == (Layer.TLS, "certificate_required")
    assert result.distrust is None
