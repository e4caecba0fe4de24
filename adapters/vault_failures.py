"""What a Vault-API server's refusals and a broken connection mean, as `domain.errors` (FACTS.md, PKI).

Texts are made from status, the server's own `errors` list and operating-system words; never from a request, whose
headers hold the token and whose body may hold a key.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

import requests

from domain.errors import (
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

CAPABILITY: Final = {"get": "read", "list": "list", "post": "update", "delete": "delete"}
"""The policy capability that an HTTP method needs, unless a caller knows better (KV: `create`)."""


def of_status(
    status: int, errors: Sequence[str], *, where: str, path: str, capability: str, retry_after: str | None = None
) -> RotatorError:
    """The failure behind an HTTP status. 403 is a missing permission here: a refused login is told by the caller."""
    seen = f"{status} {'; '.join(' '.join(text.split()) for text in errors)}".strip()
    if status == 403:
        return PermissionMissing(
            "permission denied",
            where=where,
            seen=seen,
            action=f'grant capability "{capability}" on "{path}" in the policy of this login, or correct the mount',
        )
    if status == 404:
        return RequestRefused(
            "nothing answers under this path", where=where, seen=seen, action="check the mount and role in the settings"
        )
    if status == 429:
        return Throttled("too many requests", where=where, seen=seen, retry_after_s=_seconds(retry_after))
    if status == 501:
        return ServerFailed("the server is not initialised", where=where, seen=seen, action="initialise and unseal it")
    if status == 503:
        sealed = any("sealed" in text.lower() for text in errors)
        return ServerFailed(
            "the server is sealed" if sealed else "the server is not available",
            where=where,
            seen=seen,
            action="unseal it" if sealed else "look at the server's log",
        )
    if status in (408, 412) or status >= 500:
        return ServerFailed("the server failed", where=where, seen=seen, action="look at the server's log")
    if status >= 400:
        return RequestRefused("the request is refused", where=where, seen=seen)
    return UnexpectedAnswer("the answer is not what this path returns", where=where, seen=seen)


def of_transport(error: OSError, *, where: str, ca_file: str | None) -> RotatorError:
    """The failure behind an exception of `requests`; `SSLError` is a `ConnectionError` there and is tested first."""
    if isinstance(error, requests.exceptions.SSLError):
        return TlsUntrusted(
            "the server's own TLS certificate is not trusted",
            where=where,
            seen=_innermost(error),
            action=f"check ca_file ({ca_file or 'not set: the public CA bundle'}) and the address",
        )
    if isinstance(error, requests.exceptions.Timeout):
        return Unreachable("no answer in time", where=where, seen="timeout", action="check address, route and load")
    if isinstance(error, requests.exceptions.RequestException):
        if isinstance(error, ValueError):
            return SettingsInvalid("the address cannot be used", where=where, seen=type(error).__name__)
        return Unreachable(
            "no connection", where=where, seen=_innermost(error), action="check that the server runs at this address"
        )
    return SettingsInvalid("ca_file cannot be used", where=where, seen=f"{ca_file}: {type(error).__name__}")


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else 1.0


def _innermost(error: BaseException) -> str:
    """The words of the innermost operating-system or TLS error that `requests` and urllib3 wrapped."""
    words, current, steps = type(error).__name__, error, 0
    while steps < 10:
        steps += 1
        if isinstance(current, ssl.SSLCertVerificationError):
            return str(current.verify_message)
        if isinstance(current, OSError) and current.strerror:
            words = current.strerror
        wrapped = [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]
        inner = next((item for item in wrapped if isinstance(item, BaseException)), None)
        if inner is None:
            break
        current = inner
    return words
