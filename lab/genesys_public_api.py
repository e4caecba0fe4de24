"""A strict stand-in for the part of Genesys' published platform API (v2) that an observer of a trunk reads.

It takes what the vendor's SDK can send, and refuses anything else. Writes to the certificate authorities are an
operator's: they lock by `version`.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lab import genesys_public_wire as wire
from lab.api_guard import ApiGuard, Operation, Refusal, RequestFaults, RequestLog
from lab.authorities import Authorities, Authority, Managed, NotAnAuthority, VersionConflict
from lab.byoc_trunk import ByocTrunk
from lab.genesys_wire import DIALECT, basic_credentials, number
from lab.strict_fields import FieldRefused, no_body, read_object, read_query
from lab.tokens import Tokens

SERVICE = "genesys-public"
"""How the request log and the faults call it."""


class GenesysPublicApi:
    """One organisation: its login, its BYOC trunks, its certificate authorities."""

    def __init__(
        self,
        trunks: Iterable[ByocTrunk],
        authorities: Authorities,
        tokens: Tokens,
        log: RequestLog,
        faults: RequestFaults,
        *,
        page_size: int = wire.PAGE_SIZE,
    ) -> None:
        self._trunks = {trunk.id: trunk for trunk in trunks}
        self._authorities, self._tokens, self._page_size = authorities, tokens, page_size
        guard = ApiGuard(SERVICE, DIALECT, tokens, log, faults)
        guard.route("/oauth/token", POST=Operation(self._token, None))
        guard.route(wire.TRUNK, GET=Operation(self._trunk, wire.PERMISSION))
        guard.route(wire.METRICS, GET=Operation(self._metrics, wire.PERMISSION))
        guard.route(
            wire.AUTHORITIES,
            GET=Operation(self._list, wire.PERMISSION),
            POST=Operation(self._create, wire.PERMISSION),
        )
        guard.route(
            wire.AUTHORITY,
            GET=Operation(self._read, wire.PERMISSION),
            PUT=Operation(self._change, wire.PERMISSION),
            DELETE=Operation(self._delete, wire.PERMISSION),
        )
        self.application: Starlette = guard.application()

    async def _token(self, request: Request) -> Response:
        """The published login: its answer names no scopes, which are those of the client's roles."""
        read_query(request)
        try:
            client_id, secret = basic_credentials(request.headers.get("authorization", ""))
            form = parse_qs((await request.body()).decode(), keep_blank_values=True, strict_parsing=True)
            if form != {"grant_type": ["client_credentials"]}:
                raise ValueError("the form must be grant_type=client_credentials and nothing else")
        except ValueError as error:
            return JSONResponse({"error": "invalid_request", "description": str(error)}, 400)
        client = self._tokens.client(client_id, secret)
        if client is None:
            return JSONResponse({"error": "invalid_client", "description": "client not found or secret wrong"}, 401)
        return JSONResponse(
            {
                "access_token": self._tokens.issue(client),
                "token_type": "bearer",
                "expires_in": self._tokens.lifetime_s,
            }
        )

    # Trunks

    async def _trunk(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return JSONResponse(wire.trunk_object(self._find_trunk(request)))

    async def _metrics(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return JSONResponse(wire.metrics_object(self._find_trunk(request)))

    def _find_trunk(self, request: Request) -> ByocTrunk:
        trunk = self._trunks.get(request.path_params["trunk_id"])
        if trunk is None:
            raise Refusal(404, "not.found", "The requested trunk could not be found.")
        return trunk

    # Certificate authorities

    async def _list(self, request: Request) -> Response:
        """Without parameters, as the SDK asks; or as the links of another page have it."""
        await no_body(request)
        query = read_query(request, "pageSize", "pageNumber")
        size = number(query.get("pageSize", str(self._page_size)), "pageSize", 1, 100)
        page = number(query.get("pageNumber", "1"), "pageNumber", 1, 10_000)
        return JSONResponse(wire.authority_page(self._authorities.all, page, size))

    async def _create(self, request: Request) -> Response:
        read_query(request)
        body = await read_object(request, wire.NEW_AUTHORITY)
        try:
            made = self._authorities.add(
                body["name"], body["certificate"], services=tuple(body.get("services", ("SIP",)))
            )
        except NotAnAuthority as refused:
            raise FieldRefused(f"field 'certificate': {refused}") from None
        return JSONResponse(wire.authority_object(made))

    async def _read(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return JSONResponse(wire.authority_object(self._find_authority(request)))

    async def _change(self, request: Request) -> Response:
        read_query(request)
        entry = self._find_authority(request)
        body = await read_object(request, wire.CHANGED_AUTHORITY)
        if body.get("id", entry.id) != entry.id:
            raise FieldRefused("field 'id' must be the id in the path")
        services = tuple(body.get("services", entry.services))
        try:
            changed = self._authorities.change(entry, body["version"], body["name"], body["certificate"], services)
        except VersionConflict as conflict:
            raise Refusal(409, "general.conflict", str(conflict)) from None
        except NotAnAuthority as refused:
            raise FieldRefused(f"field 'certificate': {refused}") from None
        except Managed:
            raise _read_only() from None
        return JSONResponse(wire.authority_object(changed))

    async def _delete(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        try:
            self._authorities.remove(self._find_authority(request))
        except Managed:
            raise _read_only() from None
        return Response(status_code=204)

    def _find_authority(self, request: Request) -> Authority:
        entry = self._authorities.find(request.path_params["certificate_id"])
        if entry is None:
            raise Refusal(404, "not.found", "The requested certificate authority could not be found.")
        return entry


def _read_only() -> FieldRefused:
    return FieldRefused("a managed certificate authority cannot be modified")
