"""The lab's control API, as the demo uses it: what its carrier counted, and the end of its calls."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType

import httpx
from pydantic import BaseModel, ConfigDict

SETTLE_WITHIN_S = 40.0


class LabModel(BaseModel):
    """Fields that the demo does not need are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LabFile(LabModel):
    """`lab.json`: where everything is. Written last, so that whoever sees it may use it."""

    control: str
    vault: str
    plan: Path
    settings: Path
    certificate_a: str


class Calls(LabModel):
    """Calls of one trunk, both directions: placed = completed + lost + active."""

    placed: int
    completed: int
    lost: int
    active: int


class Loss(LabModel):
    """One lost call."""

    at: datetime
    direction: str
    cause: str


class Handshakes(LabModel):
    """Handshakes on one certificate."""

    attempts: int
    failures: dict[str, int]


class Counted(LabModel):
    """Handshakes by leaf SHA-256 (`none`: no certificate was shown), as the carrier counted them."""

    carrier: dict[str, Handshakes]


class Trunk(LabModel):
    """One trunk of the lab."""

    pool: tuple[str, ...]
    active_calls: dict[str, int]
    calls: Calls
    last_losses: tuple[Loss, ...] = ()
    handshakes: Counted


class Violation(LabModel):
    """A moment without a working certificate on an endpoint."""

    at: datetime
    endpoint: str
    reason: str


class LabState(LabModel):
    """`GET /lab/state`. `faults` says of every armed fault whether it is on."""

    trunks: dict[str, Trunk]
    violations: tuple[Violation, ...]
    faults: dict[str, bool]

    @property
    def placed(self) -> int:
        """Calls placed on all trunks."""
        return sum(trunk.calls.placed for trunk in self.trunks.values())

    @property
    def lost(self) -> int:
        """Calls lost on all trunks."""
        return sum(trunk.calls.lost for trunk in self.trunks.values())


class Settled(LabState):
    """`POST /lab/settle`: the final state. `adds_up`: every placed call was completed or lost."""

    settled: bool
    adds_up: bool


class LabClient:
    """Asks the lab; use as an async context manager. A proxy of the environment is never used: it is all loopback."""

    def __init__(self, lab: LabFile) -> None:
        self.lab = lab
        self._http = httpx.AsyncClient(base_url=lab.control, trust_env=False, timeout=5.0)

    async def state(self) -> LabState:
        """What is going on."""
        return LabState.model_validate_json(await self._answer("GET", "/lab/state"))

    async def settle(self) -> Settled:
        """Places no more calls, ends those that are active, and counts."""
        return Settled.model_validate_json(await self._answer("POST", "/lab/settle", timeout_s=SETTLE_WITHIN_S))

    async def call_again(self, trunk: str) -> None:
        """Places calls again after `settle`."""
        await self._answer("POST", "/lab/quiet", body={"trunk": trunk, "on": False})

    async def revoked_at(self, mounts: Iterable[str], serial: str) -> datetime | None:
        """When one of the PKI's mounts revoked a certificate (`serial` as hex digits), by its own record."""
        colons = ":".join(serial[at : at + 2] for at in range(0, len(serial), 2))
        for mount in mounts:
            answer = await self._http.get(f"{self.lab.vault}/v1/{mount}/cert/{colons}")
            text = answer.json()["data"].get("revocation_time_rfc3339") if answer.is_success else None
            if text:
                return datetime.fromisoformat(text)
        return None

    async def _answer(self, method: str, path: str, *, body: object = None, timeout_s: float = 5.0) -> bytes:
        answer = await self._http.request(method, path, json=body, timeout=timeout_s)
        answer.raise_for_status()
        return answer.content

    async def __aenter__(self) -> LabClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
