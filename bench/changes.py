"""The ways in which a row's certificate is changed: by a rotation, or by hand with a restart, as is usual today."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr
from temporalio.client import WorkflowFailureError

from domain.certificates import facts
from tests.sip.rotation_rig import Rig
from tests.sip.trunk_path import TrunkPath

ROTATION_PATIENCE_S = 300.0
_KEY_RUN = "bench"


@dataclass(frozen=True, slots=True)
class Changed:
    """How a change ended, and why when not as wanted. `phases` are Unix times of entry, in order.

    `sha256_b` is None when it never came to a B.
    """

    ended: str
    sha256_b: str | None
    phases: Mapping[str, float] = field(default_factory=dict)
    trouble: str | None = None


async def rotated(rig: Rig) -> Changed:
    """A whole rotation, from PREFLIGHT until it has ended, however it did."""
    rotation, trouble = await rig.stage.start(), None
    try:
        async with asyncio.timeout(ROTATION_PATIENCE_S):
            await rotation.handle.result()
    except WorkflowFailureError as failure:
        trouble = str(failure.cause)
    except TimeoutError:
        trouble = f"no end within {ROTATION_PATIENCE_S:.0f} s"
    status = await rotation.status()
    phases = {time.phase.value: time.entered_at.timestamp() for time in status.phases}
    return Changed(status.phase.value, status.b.sha256 if status.b else None, phases, trouble)


async def replaced_and_restarted(rig: Rig) -> Changed:
    """What is done today: B's files over A's, and the service restarted."""
    chain_pem, key = await _issued(rig)
    begun = time.time()
    await _replace(rig.path, chain_pem, key)
    replaced = time.time()
    await _restart(rig.path)
    served = time.time()
    phases = {"files replaced": begun, "restart": replaced, "up again": served}
    return Changed("restarted", facts(chain_pem).sha256, phases)


async def _issued(rig: Rig) -> tuple[str, SecretStr]:
    """B from the same PKI, as the plan's rotation would get it: chain and key."""
    plan, adapters = rig.stage.plan(), rig.stage.adapters
    spec = plan.certificate
    custodian, authority = adapters.custodian(spec.custody), adapters.authority(spec.ca)
    csr = await custodian.csr(
        _KEY_RUN,
        key_type=spec.key_type,
        common_name=spec.common_name,
        dns_names=spec.dns_names,
        ip_addresses=spec.ip_addresses,
    )
    chain_pem = await authority.sign(
        csr,
        common_name=spec.common_name,
        dns_names=spec.dns_names,
        ip_addresses=spec.ip_addresses,
        lifetime=spec.lifetime,
    )
    return chain_pem, await custodian.private_key(_KEY_RUN)


async def _replace(path: TrunkPath, chain_pem: str, key: SecretStr) -> None:
    """The files keep their modes: keys stay readable by their owner alone."""
    if path.haproxies:
        [node] = path.haproxies
        node.slot("one").write_text(chain_pem + key.get_secret_value())
    else:
        [edge] = path.kamailios
        (edge.tls_directory / "trunk.chain.pem").write_text(chain_pem)
        (edge.tls_directory / "trunk.key").write_text(key.get_secret_value())


async def _restart(path: TrunkPath) -> None:
    """As the service manager does it; returns when the edge is up again."""
    if path.haproxies:
        await path.haproxies[0].restart()
    else:
        await asyncio.to_thread(path.kamailios[0].restart)
