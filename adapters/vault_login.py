"""The token of one Vault-API login, and when it must be renewed or made anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import BaseModel, SecretStr


@dataclass(frozen=True)
class Login:
    """A token with the lease it was born with; seconds of a monotonic clock, None when the token never expires."""

    token: SecretStr
    renewable: bool
    lease_s: float
    renew_at: float | None

    @classmethod
    def at(cls, now: float, *, token: SecretStr, lease_s: float, renewable: bool) -> Login:
        """A login made at `now`: due for renewal when two thirds of its lease have passed."""
        return cls(token, renewable, lease_s, now + lease_s * 2 / 3 if lease_s > 0 else None)

    def due(self, now: float) -> bool:
        """True when the token must be renewed or replaced before it is used again."""
        return self.renew_at is not None and now >= self.renew_at

    def renewed(self, now: float, lease_s: float) -> Login | None:
        """After a renewal; None when it gave less than a third of the first lease: max_ttl is near, log in again."""
        return None if lease_s * 3 < self.lease_s else replace(self, renew_at=now + lease_s * 2 / 3)


class AuthAnswer(BaseModel):
    """`auth` of a login or renewal."""

    client_token: SecretStr
    lease_duration: int
    renewable: bool


class TokenAnswer(BaseModel):
    """`data` of `auth/token/lookup-self`."""

    ttl: int
    renewable: bool = False
