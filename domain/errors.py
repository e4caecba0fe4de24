"""One taxonomy for everything that can go wrong: what failed, where, what was seen, what to do next.

Adapters raise these; activities turn them into Temporal failures (`retryable` decides), and the desk prints them.
Secrets never belong in any of their fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.texts import readable

LONGEST_WHAT = 20_000
"""Characters: a wrong plan is told with all its problems."""

LONGEST_PART = 1500
"""Characters of where, seen and action: what the other side says can be megabytes."""


class RotatorError(Exception):
    """A failure for the person who must act.

    `what` says what failed, `where` on which endpoint or system, `seen` what was observed, `action` what to do next.
    Each is cut to a readable length, and a private key in it is removed.
    """

    retryable = True

    def __init__(self, what: str, *, where: str = "", seen: str = "", action: str = "") -> None:
        self.what = readable(what, LONGEST_WHAT)
        self.where, self.seen, self.action = (readable(part, LONGEST_PART) for part in (where, seen, action))
        super().__init__(self._text())

    def _text(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.seen:
            text += f"; seen: {self.seen}"
        if self.action:
            text += f"; do: {self.action}"
        return text


class PlanInvalid(RotatorError):
    """The plan, or its combination with the worker's settings, cannot work."""

    retryable = False


class SettingsInvalid(RotatorError):
    """The worker's settings are incomplete or contradictory."""

    retryable = False


class Unreachable(RotatorError):
    """The other side did not answer: connection refused, reset, name not found, timeout."""


class TlsUntrusted(RotatorError):
    """The API's own server certificate was not trusted (wrong CA bundle in the settings)."""

    retryable = False


class CredentialsRefused(RotatorError):
    """The other side knows us not: wrong client, expired or denied token."""

    retryable = False


class PermissionMissing(RotatorError):
    """Authenticated, but a scope, permission or policy is missing."""

    retryable = False


class RequestRefused(RotatorError):
    """The other side understood the request and says no (4xx): repeating it unchanged cannot help."""

    retryable = False


class ConcurrentEdit(RotatorError):
    """Somebody else changed the object between our read and our write; reading again can help."""


class ServerFailed(RotatorError):
    """The other side failed (5xx, sealed, starting)."""


class Throttled(RotatorError):
    """The other side asks to come back later; `retry_after_s` is its `Retry-After` in seconds."""

    def __init__(self, what: str, *, retry_after_s: float, where: str = "", seen: str = "", action: str = "") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what, where=where, seen=seen, action=action)


class UnexpectedAnswer(RotatorError):
    """The answer does not have the shape of its contract."""


class TooLate(RotatorError):
    """The activity has outlived its time before it could write; nothing was sent."""


class NotAsWritten(RotatorError):
    """Read back after a change, the world is not what was asked for."""


class CertificateRefused(RotatorError):
    """A certificate violates a rule: it would break a trunk."""

    retryable = False

    def __init__(self, what: str, *, violations: Mapping[str, str], where: str = "") -> None:
        self.violations = dict(violations)
        seen = "; ".join(f"{rule}: {message}" for rule, message in self.violations.items())
        super().__init__(what, where=where, seen=seen, action="correct the PKI role or the plan")


class CapabilityMissing(RotatorError):
    """The plan needs something that this adapter or platform cannot do."""

    retryable = False
