"""What an HTTP answer's refusal and a broken connection mean, as `domain.errors`.

Texts are made from method, path, status, the other side's own error body and the operating system's words; never from
a request, whose headers hold the token and whose body may hold a key. What the other side echoes is cleaned first.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from pydantic import BaseModel, ValidationError

from domain.errors import (
    ConcurrentEdit,
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    Throttled,
    TlsUntrusted,
    UnexpectedAnswer,
    Unreachable,
)

TEXT_LIMIT: Final = 500
"""Characters of the other side's words that an error keeps."""

SECRET_PATH: Final = "sip_rotate_secret_path"
"""Extension of a request whose path nobody may read."""

LOOKED_AT: Final = 20_000
"""Characters of the other side's words that are cleaned at all: an error page can be megabytes."""

LONGEST_RETRY_AFTER_S: Final = 86400.0
"""Seconds; a longer `Retry-After` is cut to this."""

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")


class _ErrorBody(BaseModel):
    """The error bodies of Genesys, CXone, OAuth (RFC 6749 section 5.2) and the carrier, all in one."""

    code: str | None = None
    error: str | None = None
    message: str | None = None
    error_description: str | None = None
    description: str | None = None
    contextId: str | None = None
    traceId: str | None = None


def place(profile: str, request: httpx.Request) -> str:
    """Profile, method and URL of a request, without user, password and query; without a path that is a secret."""
    url = request.url
    port = f":{url.port}" if url.port is not None else ""
    path = "/…" if request.extensions.get(SECRET_PATH) else url.raw_path.decode("ascii").partition("?")[0]
    return f"{profile} {request.method} {url.scheme}://{url.host}{port}{path}"


def error_code(response: httpx.Response) -> str | None:
    """The machine-readable code of an error body: Genesys `code`, CXone and OAuth `error`."""
    body = _error_body(response)
    return None if body is None else body.code or body.error


def stated(response: httpx.Response) -> str:
    """Status and the other side's own words, cleaned of anything like a key, at most `TEXT_LIMIT` characters."""
    body = _error_body(response)
    text = ""
    if body is not None:
        code = body.code or body.error or ""
        message = body.message or body.error_description or body.description or ""
        trace = body.contextId or body.traceId
        text = ": ".join(part for part in (code, message) if part) + (f" (trace {trace})" if trace else "")
    return f"{response.status_code} {_cleaned(text or _start(response))}".strip()[:TEXT_LIMIT]


def of_answer(response: httpx.Response, *, profile: str, now: datetime) -> RotatorError:
    """The failure behind an answer that is no success."""
    status, where, seen = response.status_code, place(profile, response.request), stated(response)
    wait = retry_after_s(response.headers.get("Retry-After"), now)
    if status == 401:
        return CredentialsRefused(
            "the credentials are not accepted", where=where, seen=seen, action=f"check the secrets of {profile}"
        )
    if status == 403:
        return PermissionMissing(
            "a permission is missing",
            where=where,
            seen=seen,
            action=f"grant the scope or permission to the client of {profile}",
        )
    if status == 409:
        return ConcurrentEdit("somebody else changed it in between", where=where, seen=seen, action="read it again")
    if status == 429 or (status == 503 and wait is not None):
        return Throttled(
            "asked to come back later", where=where, seen=seen, retry_after_s=1.0 if wait is None else wait
        )
    if status >= 500 or status == 408:
        return ServerFailed("the server failed", where=where, seen=seen, action="look at its status page or log")
    if status >= 400:
        return RequestRefused(
            "the request is refused",
            where=where,
            seen=seen,
            action=f"check the ids in the plan and the paths of {profile}" if status in (404, 405) else "",
        )
    return UnexpectedAnswer(
        "the answer is neither a success nor an error",
        where=where,
        seen=f"status {status}",
        action=f"check the URLs of {profile}: redirects are not followed" if 300 <= status < 400 else "",
    )


def of_transport(error: Exception, *, where: str, host: str, ca_file: str | None) -> RotatorError:
    """The failure behind an exception of `httpx`, or a timeout. Its own text is not repeated: it may quote a header."""
    causes = list(_causes(error))
    untrusted = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if untrusted is not None:
        return TlsUntrusted(
            "the server's own TLS certificate is not trusted",
            where=where,
            seen=str(untrusted.verify_message),
            action=f"check ca_file ({ca_file or 'not set: the public CA bundle'}) and the host name {host}",
        )
    if any(isinstance(cause, httpx.TimeoutException | TimeoutError) for cause in causes):
        return Unreachable(
            f"no answer from {host} in time", where=where, seen="timeout", action="check route, firewall and load"
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Unreachable(
            f"the host name {host} is not found", where=where, seen=_words(causes), action="check the URL and DNS"
        )
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError | UnicodeError):
        return SettingsInvalid(
            "the request cannot be formed",
            where=where,
            seen=type(error).__name__,
            action="check the URLs and that secrets hold no line breaks or other characters that a header cannot have",
        )
    return Unreachable(
        f"no connection to {host}, or it broke",
        where=where,
        seen=_words(causes),
        action="check that the server runs there and that the route is open",
    )


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110 section 10.2.3: seconds or a date); None when there is no usable one."""
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+\s*", value, re.ASCII):
        return min(float(value), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def shape_problems(error: ValidationError) -> str:
    """What is wrong with an answer: fields and rules, never the values."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    texts = [f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}" for problem in problems[:5]]
    more = f"; {len(problems) - 5} more" if len(problems) > 5 else ""
    return _cleaned("; ".join(texts) + more)[:TEXT_LIMIT]


def _start(response: httpx.Response) -> str:
    return response.content[:LOOKED_AT].decode(response.encoding or "utf-8", errors="replace")


def _error_body(response: httpx.Response) -> _ErrorBody | None:
    try:
        return _ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return None


def _cleaned(text: str) -> str:
    """One line without anything that looks like key material or a token; fingerprints and names stay."""
    without_keys = _PRIVATE_KEY.sub("[private key removed]", text[:LOOKED_AT].replace("\\n", "\n"))
    return " ".join(_BASE64_RUN.sub(_unless_readable, without_keys).split())


def _unless_readable(run: re.Match[str]) -> str:
    text = run.group()
    mixed = any(c.islower() for c in text) and any(c.isupper() for c in text) and any(c.isdigit() for c in text)
    return "[removed]" if mixed else text


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, innermost last."""
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            return
        yield current
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__


def _words(causes: list[BaseException]) -> str:
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return f"TLS: {cause.reason}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(causes[0]).__name__
