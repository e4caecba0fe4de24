"""How Genesys' published API (v2) words trunks and certificate authorities, and what it takes in writes."""

from __future__ import annotations

from lab.authorities import Authority
from lab.byoc_trunk import ByocTrunk, Ping
from lab.strict_fields import PEM, TEXT, exactly, list_of, optional, whole_number
from lab.wire_time import now, time_text

PERMISSION = "telephony:plugin:all"
"""What an OAuth client's role must hold for every request here."""

EDGES = "/api/v2/telephony/providers/edges"
TRUNK = EDGES + "/trunks/{trunk_id}"
METRICS = TRUNK + "/metrics"
AUTHORITIES = EDGES + "/certificateauthorities"
AUTHORITY = AUTHORITIES + "/{certificate_id}"

PAGE_SIZE = 25

NEW_AUTHORITY = {
    "name": TEXT,
    "certificate": PEM,
    "type": optional(exactly("REMOTE")),
    "services": optional(list_of(TEXT)),
}
CHANGED_AUTHORITY = {**NEW_AUTHORITY, "id": optional(TEXT), "version": whole_number(1, 2**31)}


def trunk_object(trunk: ByocTrunk) -> dict[str, object]:
    """A `Trunk`."""
    connected, since = trunk.connected
    return {
        "id": trunk.id,
        "name": trunk.name,
        "version": 4,
        "dateCreated": "2024-05-06T07:08:09.000Z",
        "state": "active",
        "trunkType": "EXTERNAL",
        "edge": _reference("edges", "edge-of-the-trunk"),
        "trunkBase": _reference("edges/trunkbasesettings", "base-of-the-trunk"),
        "trunkMetabase": {"id": trunk.metabase, "name": trunk.metabase},
        "inService": trunk.in_service,
        "enabled": trunk.edge_in_service,
        "connectedStatus": {"connected": connected, "connectedStateTime": time_text(since)},
        "optionsStatus": [_options(proxy, ping) for proxy, ping in trunk.pings.items()],
        "registersStatus": [],
        "optionsEnabledStatus": trunk.options_enabled,
        "registersEnabledStatus": "DISABLED",
        "family": 4,
        "proxyAddressList": list(trunk.proxies),
        "selfUri": TRUNK.format(trunk_id=trunk.id),
    }


def metrics_object(trunk: ByocTrunk) -> dict[str, object]:
    """A `TrunkMetrics`."""
    received, sent = trunk.calls()
    return {
        "eventTime": time_text(trunk.reported_at),
        "logicalInterface": _reference("edges/logicalinterfaces", "interface-of-the-trunk"),
        "trunk": _reference("edges/trunks", trunk.id),
        "calls": {"inboundCallCount": received, "outboundCallCount": sent},
        "qos": {"mismatchCount": 0},
    }


def authority_object(one: Authority) -> dict[str, object]:
    """A `DomainCertificateAuthority`."""
    at = now()
    return {
        "id": one.id,
        "name": one.name,
        "version": one.version,
        "dateCreated": time_text(one.created),
        "dateModified": time_text(one.modified),
        "state": "active",
        "certificate": one.pem,
        "type": "MANAGED" if one.managed else "REMOTE",
        "services": list(one.services),
        "certificateDetails": [
            {
                "issuer": certificate.issuer.rfc4514_string(),
                "subject": certificate.subject.rfc4514_string(),
                "expirationDate": time_text(certificate.not_valid_after_utc),
                "issueDate": time_text(certificate.not_valid_before_utc),
                "expired": certificate.not_valid_after_utc < at,
                "valid": certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc,
                "signatureValid": True,
            }
            for certificate in one.certificates
        ],
        "selfUri": AUTHORITY.format(certificate_id=one.id),
    }


def authority_page(entries: tuple[Authority, ...], number: int, size: int = PAGE_SIZE) -> dict[str, object]:
    """A `CertificateAuthorityEntityListing`; pages are numbered from 1."""
    count = max(1, -(-len(entries) // size))

    def uri(page: int) -> str:
        return f"{AUTHORITIES}?pageSize={size}&pageNumber={page}"

    links = {"firstUri": uri(1), "lastUri": uri(count), "selfUri": uri(number)}
    if number < count:
        links["nextUri"] = uri(number + 1)
    if number > 1:
        links["previousUri"] = uri(number - 1)
    return {
        "entities": [authority_object(one) for one in entries[(number - 1) * size : number * size]],
        "pageSize": size,
        "pageNumber": number,
        "total": len(entries),
        "pageCount": count,
        **links,
    }


def _options(proxy: str, ping: Ping) -> dict[str, object]:
    shown: dict[str, object] = {
        "proxyAddress": proxy,
        "optionState": ping.answered,
        "optionStateTime": time_text(ping.since),
    }
    if ping.error is not None:
        shown["errorInfo"] = {"text": ping.error, "code": "options.failed"}
    return shown


def _reference(kind: str, object_id: str) -> dict[str, object]:
    return {"id": object_id, "selfUri": f"/api/v2/telephony/providers/{kind}/{object_id}"}
