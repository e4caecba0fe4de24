"""How every HTTP API is spoken to: one client per adapter, no retries, no redirects, failures as `domain.errors`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from adapters.fence import ensure_in_time
from adapters.http_failures import SECRET_PATH, of_answer, of_transport, place, shape_problems
from domain.errors import RotatorError, SettingsInvalid, UnexpectedAnswer
from settings import HttpProfile

M = TypeVar("M", bound=BaseModel)

READS = frozenset({"GET", "HEAD"})


class Http:
    """The HTTP client of one settings profile. `label` is how errors name the profile, for example `[platforms.eu]`.

    A lab is never reached through a proxy; elsewhere `HTTPS_PROXY` and `NO_PROXY` count. `transport` replaces the
    network in tests. Raises `SettingsInvalid` when the CA file cannot be used.
    """

    def __init__(
        self,
        label: str,
        profile: HttpProfile,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.label = label
        self._ca_file = None if profile.ca_file is None else str(profile.ca_file)
        self._timeout_s = profile.timeout.total_seconds()
        self._clock = clock
        self._client = httpx.AsyncClient(
            verify=True if self._ca_file is None else _trusting(self._ca_file, label),
            timeout=self._timeout_s,
            follow_redirects=False,
            trust_env=not profile.lab,
            transport=transport,
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        accept: Collection[int] = (),
        secret_path: bool = False,
        only_asks: bool = False,
    ) -> httpx.Response:
        """The answer, if it is a success (2xx) or one of the statuses in `accept`; it is complete within the timeout.

        `content` is a body as it is sent, `json` and `form` are encoded. With `secret_path` no failure shows the path.
        `only_asks` marks a POST that changes nothing, so that it may also be sent when the time to write is over.

        Raises `Unreachable`, `TlsUntrusted`, `CredentialsRefused` (401), `PermissionMissing` (403), `ConcurrentEdit`
        (409), `TooLate` (a write of an activity that has outlived its time), `Throttled` (429, 503 with `Retry-After`),
        `ServerFailed` (5xx), `RequestRefused` (other 4xx), `UnexpectedAnswer` (3xx), `SettingsInvalid`. No failure
        refers to the request, whose body may hold a key.
        """
        failure: RotatorError
        try:
            request = self._client.build_request(
                method, url, params=params, json=json, content=content, data=form, headers=headers
            )
            request.extensions[SECRET_PATH] = secret_path
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, TypeError) as error:
            failure = of_transport(error, where=f"{self.label} {method}", host="the URL", ca_file=self._ca_file)
        else:
            if method not in READS and not only_asks:
                ensure_in_time(place(self.label, request))
            try:
                async with asyncio.timeout(self._timeout_s):
                    response = await self._client.send(request, auth=auth)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
                failure = of_transport(
                    error, where=place(self.label, request), host=request.url.host, ca_file=self._ca_file
                )
            else:
                if response.is_success or response.status_code in accept:
                    return response
                failure = of_answer(response, profile=self.label, now=self._clock())
        raise failure

    def parse(self, response: httpx.Response, model: type[M]) -> M:
        """The answer's body as a model. Raises `UnexpectedAnswer` that names wrong fields, not their values."""
        try:
            return model.model_validate_json(response.content, strict=True)
        except ValidationError as error:
            problems = shape_problems(error)
        raise self.unexpected(response, "the answer does not have the shape of its contract", problems)

    def unexpected(self, response: httpx.Response, what: str, seen: str) -> UnexpectedAnswer:
        """An answer that cannot be used, as an error to raise."""
        return UnexpectedAnswer(
            what,
            where=place(self.label, response.request),
            seen=seen,
            action="compare the answer with docs/platform-contract.md and check what answers at this URL",
        )

    def refusal(self, response: httpx.Response) -> RotatorError:
        """The failure behind an accepted answer that turns out to be a refusal after all."""
        return of_answer(response, profile=self.label, now=self._clock())

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def url_of(base: str, template: str, **ids: str) -> str:
    """Base URL and a path of the settings with its ids filled in, percent-encoded.

    Raises `SettingsInvalid` when the path names an id that there is not.
    """
    try:
        path = template.format(**{name: quote(value, safe="") for name, value in ids.items()})
    except (KeyError, IndexError, ValueError):
        path = None
    if path is None:
        raise SettingsInvalid(
            "a path names an id that there is not",
            where="paths",
            seen=template,
            action=f"use only {', '.join(f'{{{name}}}' for name in ids) or 'plain paths'}",
        )
    return f"{base.rstrip('/')}{path}"


def _trusting(ca_file: str, label: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise SettingsInvalid("ca_file cannot be used", where=f"{label} ca_file", seen=f"{ca_file}: {reason}")
