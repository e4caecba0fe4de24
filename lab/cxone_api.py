"""A strict stand-in for the NICE CXone requests of docs/platform-contract.md."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lab.api_guard import ApiGuard, Operation, Refusal, RequestLog
from lab.certificate_check import UploadRefused
from lab.cxone_wire import (
    DEFECTS,
    DIALECT,
    LOGIN,
    LOST,
    PROFILE_FIELDS,
    UPLOAD,
    counts_object,
    matched_version,
    period,
)
from lab.platform_metrics import metric_rows
from lab.platform_state import CertificateInUse, NameTaken, PlatformFaults, PlatformState, fingerprints
from lab.strict_fields import TEXT, FieldRefused, no_body, read_object, read_query
from lab.tokens import CERTIFICATE_SCOPE, HEALTH_SCOPE, TRUNK_SCOPE, Tokens
from lab.trunk import Binding, RegisteredCertificate, Trunk
from lab.wire_time import time_text

CERTIFICATES = "/restapi/v1.0/security/certificates"
TRUNKS = "/restapi/v1.0/sip/trunks"
TRUNK = TRUNKS + "/{trunk_id}"
SYSTEM = "/restapi/v1.0/system"


class CxoneApi:
    """The API of one tenant. The platform's trunks are keyed by `trunkId`."""

    def __init__(self, platform: PlatformState, tokens: Tokens, log: RequestLog, faults: PlatformFaults) -> None:
        self._platform, self._tokens, self._faults = platform, tokens, faults
        guard = ApiGuard(platform.service, DIALECT, tokens, log, faults)
        guard.route("/authentication/v1/token/access-key", POST=Operation(self._token, None))
        guard.route(
            CERTIFICATES,
            POST=Operation(self._upload, CERTIFICATE_SCOPE),
            GET=Operation(self._list_certificates, CERTIFICATE_SCOPE),
        )
        guard.route(
            CERTIFICATES + "/{certificate_id}",
            GET=Operation(self._get_certificate, CERTIFICATE_SCOPE),
            DELETE=Operation(self._delete_certificate, CERTIFICATE_SCOPE),
        )
        guard.route(TRUNKS, GET=Operation(self._list_trunks, TRUNK_SCOPE))
        guard.route(
            TRUNK + "/profile",
            GET=Operation(self._get_profile, TRUNK_SCOPE),
            PUT=Operation(self._put_profile, TRUNK_SCOPE),
        )
        guard.route(TRUNK + "/tls-session-cache/flush", POST=Operation(self._flush, TRUNK_SCOPE))
        guard.route(TRUNK + "/tls-connections/close", POST=Operation(self._close_connections, TRUNK_SCOPE))
        guard.route(SYSTEM + "/health/sip-trunks/{trunk_id}", GET=Operation(self._health, HEALTH_SCOPE))
        guard.route(SYSTEM + "/metrics/sip-trunks/{trunk_id}/tls", GET=Operation(self._metrics, HEALTH_SCOPE))
        self.application: Starlette = guard.application()

    async def _token(self, request: Request) -> Response:
        read_query(request)
        body = await read_object(request, LOGIN)
        client = self._tokens.client(body["accessKeyId"], body["accessKeySecret"])
        if client is None:
            raise Refusal(401, "invalid_access_key", "unknown access key or wrong secret")
        return JSONResponse(
            {
                "access_token": self._tokens.issue(client),
                "token_type": "Bearer",
                "expires_in": self._tokens.lifetime_s,
                "scope": " ".join(client.scopes),
            }
        )

    # Certificates

    async def _upload(self, request: Request) -> Response:
        read_query(request)
        body = await read_object(request, UPLOAD)
        try:
            registered = self._platform.register(body["name"], body["certificateData"], body["privateKeyData"])
        except UploadRefused as refused:
            raise Refusal(422, DEFECTS[refused.defect], refused.reason) from None
        except NameTaken:
            raise Refusal(409, "DuplicateName", "a certificate of that name exists") from None
        return JSONResponse(self._certificate(registered), 201)

    async def _list_certificates(self, request: Request) -> Response:
        await no_body(request)
        query = read_query(request, "name")
        found = self._platform.named(query["name"]) if "name" in query else self._platform.certificates
        return JSONResponse({"certificates": [self._certificate(one) for one in found], "totalRecords": len(found)})

    async def _get_certificate(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return JSONResponse(self._certificate(self._find_certificate(request)))

    async def _delete_certificate(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        try:
            self._platform.delete(self._find_certificate(request))
        except CertificateInUse as use:
            raise Refusal(409, "InUse", f"trunk {use} names the certificate") from None
        return Response(status_code=204)

    def _find_certificate(self, request: Request) -> RegisteredCertificate:
        found = self._platform.certificate(request.path_params["certificate_id"])
        if found is None:
            raise Refusal(404, "NotFound", "there is no such certificate")
        return found

    def _certificate(self, one: RegisteredCertificate) -> dict[str, object]:
        problem = self._platform.problem(one)
        return {
            "certificateId": one.id,
            "name": one.name,
            "certificateType": "SIP_TLS",
            "certificateData": one.served.chain_pem,
            "sha256": one.sha256,
            "serialNumber": one.chain.serial,
            "validFrom": time_text(one.served.not_before),
            "validTo": time_text(one.served.not_after),
            "status": "Invalid" if problem else "Active",
            "statusReason": problem,
            "createdDate": time_text(one.created),
        }

    # Trunks

    async def _list_trunks(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        trunks = [trunk.settings for trunk in self._platform.trunks.values()]
        return JSONResponse({"trunks": trunks, "totalRecords": len(trunks)})

    async def _get_profile(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return _profile(self._find_trunk(request).settings)

    async def _put_profile(self, request: Request) -> Response:
        read_query(request)
        trunk = self._find_trunk(request)
        body = await read_object(request, PROFILE_FIELDS)
        version = matched_version(request.headers.get("if-match"))
        _check_unchangeable(trunk, body, version)
        trunk.write_begins()
        if version != trunk.settings["version"]:
            raise Refusal(409, "VersionConflict", f"the profile is at version {trunk.settings['version']}")
        binding = self._binding(body)
        if self._faults.refuses_change(fingerprints(trunk.pool), fingerprints(binding.pool)):
            raise Refusal(500, "InternalError", "an internal error occurred")
        was_enabled = trunk.settings["enabled"]
        fixed = {name: trunk.settings[name] for name in ("mutualTls", "listeners")}
        settings = {**LOST, **body, **fixed, "version": version + 1}
        trunk.replace(settings, binding)
        if body["enabled"] != was_enabled:
            await trunk.set_listening(body["enabled"])
        return _profile(settings)

    def _binding(self, body: dict[str, Any]) -> Binding:
        primary = self._bound(body["primaryCertificateId"])
        secondary_id = body.get("secondaryCertificateId")
        if secondary_id is None:
            return Binding(pool=(primary,), on_primary=(primary,))
        secondary = self._bound(secondary_id)
        if secondary == primary:
            raise FieldRefused("the secondary certificate must differ from the primary one")
        return Binding(pool=(primary, secondary), on_primary=(primary,), on_secondary=secondary)

    def _bound(self, certificate_id: str) -> RegisteredCertificate:
        certificate = self._platform.certificate(certificate_id)
        if certificate is None:
            raise FieldRefused("the profile names a certificate that does not exist")
        return certificate

    async def _flush(self, request: Request) -> Response:
        read_query(request)
        trunk = self._find_trunk(request)
        await read_object(request, {})
        trunk.flush_tickets()
        return JSONResponse({"flushedAt": time_text(trunk.ledger.now())})

    async def _close_connections(self, request: Request) -> Response:
        read_query(request)
        trunk = self._find_trunk(request)
        body = await read_object(request, {"certificateId": TEXT})
        certificate = self._platform.certificate(body["certificateId"])
        if certificate is None:
            raise Refusal(404, "NotFound", "there is no such certificate")
        closed = await trunk.close_connections(certificate.sha256)
        return JSONResponse({"closedConnections": closed, "closedAt": time_text(trunk.ledger.now())})

    def _find_trunk(self, request: Request) -> Trunk:
        trunk = self._platform.trunks.get(request.path_params["trunk_id"])
        if trunk is None:
            raise Refusal(404, "NotFound", "there is no such trunk")
        return trunk

    # Health and metrics

    async def _health(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        trunk = self._find_trunk(request)
        return JSONResponse(
            {
                "trunkId": trunk.id,
                "timestamp": time_text(trunk.ledger.now()),
                "tlsConnectivity": "UP" if trunk.up() else "DOWN",
                "certificateValidation": [self._validation(certificate) for certificate in trunk.pool],
                "activeCalls": [
                    {"certificateId": certificate_id, "count": count}
                    for certificate_id, count in trunk.active_calls(self._platform.certificates).items()
                ],
            }
        )

    def _validation(self, certificate: RegisteredCertificate) -> dict[str, object]:
        problem = self._platform.problem(certificate)
        if problem is None and self._faults.reports_invalid(certificate.sha256):
            problem = "certificate chain validation failed"
        return {
            "certificateId": certificate.id,
            "status": "Invalid" if problem else "Valid",
            "reason": problem,
        }

    async def _metrics(self, request: Request) -> Response:
        await no_body(request)
        query = read_query(request, "startDate", "endDate")
        trunk = self._find_trunk(request)
        since, until = period(query.get("startDate", ""), query.get("endDate", ""))
        rows = [] if self._faults.metrics_empty() else metric_rows(self._platform, trunk, since, until)
        return JSONResponse(
            {
                "trunkId": trunk.id,
                "startDate": query["startDate"],
                "endDate": query["endDate"],
                "timestamp": time_text(trunk.ledger.read_at),
                "countersSince": time_text(trunk.ledger.counters_since),
                "series": [
                    {
                        "certificateId": row.certificate_id,
                        "direction": row.direction,
                        "remoteAddress": row.peer,
                        **counts_object(row.counts),
                    }
                    for row in rows
                ],
            }
        )


def _profile(settings: dict[str, Any]) -> Response:
    return JSONResponse(settings, headers={"ETag": f'"{settings["version"]}"'})


def _check_unchangeable(trunk: Trunk, body: dict[str, Any], version: int) -> None:
    if body["trunkId"] != trunk.id:
        raise FieldRefused("field 'trunkId' must be the id in the path")
    if body["version"] != version:
        raise FieldRefused("field 'version' and If-Match differ")
    for name in ("mutualTls", "listeners"):
        if name in body and body[name] != trunk.settings[name]:
            raise FieldRefused(f"field {name!r} cannot be changed")
