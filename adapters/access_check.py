"""How `check_access` of every role collects what is missing, in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from domain.errors import (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    SettingsInvalid,
    TlsUntrusted,
    UnexpectedAnswer,
)

FOR_A_PERSON: Final = (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    SettingsInvalid,
    TlsUntrusted,
    UnexpectedAnswer,
)
"""Failures that a person must mend and that an access check therefore reports; those that may pass are raised."""

Check = Callable[[], Awaitable[object]]


async def access_problems(log_in: Check, *checks: Check) -> tuple[str, ...]:
    """The login's problem alone, or that of each check; empty when all is there."""
    problems: list[str] = []
    for check in (log_in, *checks):
        try:
            await check()
        except FOR_A_PERSON as error:
            problems.append(str(error))
            if check is log_in:
                break
    return tuple(problems)
