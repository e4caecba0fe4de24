"""Whole rotations on real edges: real calls, the lab's carrier as a second peer, a worker, and one plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from temporalio.client import WorkflowFailureError

from domain.gates import Verdict
from tests.e2e.stage import LabProcess, Rotation, Stage, running_lab, staged
from tests.sip.openssl_watch import OpensslWatch
from tests.sip.rotation_texts import CLOSE_AFTER, PEERS, RAMP, endpoint_text, plan_text, platform_settings
from tests.sip.scraping import Prometheus
from tests.sip.sipp import Callers, RenewedCallers, Totals
from tests.sip.trunk_path import Parties, TrunkPath

ROTATION_S = 300.0
"""Longer than any rotation takes on a machine that is busy with something else."""

PathOf = Callable[..., AbstractAsyncContextManager[TrunkPath]]


@dataclass(frozen=True)
class EdgeWanted:
    """An edge of the rig: its name as platform, endpoint and trunk of the carrier, and how its path is built.

    With `mutual` both sides show certificates, and calls go out to the lab's carrier.
    """

    name: str
    path_of: PathOf
    mutual: bool = False
    nodes: int = 1


@dataclass
class Rig:
    """Everything that runs. `paths` go by the edges' names."""

    lab: LabProcess
    stage: Stage
    paths: dict[str, TrunkPath]
    prometheus: Prometheus

    @property
    def sha256_a(self) -> str:
        """The certificate before the rotation."""
        found: str = self.lab.facts["certificate_a"]
        return found

    @property
    def path(self) -> TrunkPath:
        """The only path."""
        [path] = self.paths.values()
        return path

    async def tell_carrier(self, name: str, **body: Any) -> None:
        """A request about an external trunk to the lab's control API."""
        await asyncio.to_thread(self.lab.post, "/lab/external", {"trunk": name, **body})

    async def settled(self) -> dict[str, Any]:
        """The lab's final state: every call of its carrier is over, and they all add up."""
        final: dict[str, Any] = await asyncio.to_thread(self.lab.post, "/lab/settle")
        assert final["settled"]
        return final


@dataclass
class Traffic:
    """Calls and a witness on one path. SIPp's totals are final once `finish` has returned."""

    path: TrunkPath
    callers: list[Callers | RenewedCallers]
    watch: OpensslWatch

    async def start(self) -> None:
        """Begins to call; returns after the witness's first handshakes."""
        await self.watch.start()
        for callers in self.callers:
            await callers.start()

    async def finish(self) -> list[Totals]:
        """No new calls; returns when the last has ended and the witness is done."""
        totals = [await callers.finish() for callers in self.callers]
        await self.watch.stop()
        return totals

    async def stop(self) -> None:
        """Ends everything, whatever state it is in."""
        for callers in self.callers:
            await callers.stop()
        await self.watch.stop()

    async def account(self) -> str:
        """What everybody saw so far, for who reads of a test that failed."""
        lines = [f"{callers.name}: {callers.totals()}\n{callers.last_errors()}" for callers in self.callers]
        lines.append(f"carrier: {await self.path.carrier.counters()}")
        lines.append(f"witness: {self.watch.failures}")
        lines += [f"{node.folder.name}: {node.log[-2000:]}" for node in self.path.haproxies]
        return "\n".join(lines)

    async def lost_nothing(self) -> list[Totals]:
        """Finishes, and fails unless every call succeeded, by everybody's account."""
        finished = await self.finish()
        for callers, totals in zip(self.callers, finished, strict=True):
            assert totals.all_successful, (callers.name, totals, callers.last_errors())
        assert self.watch.failures == [], self.watch.failures[0]
        counters = await self.path.carrier.counters()
        assert counters.connection_errors == 0, counters
        return finished


@asynccontextmanager
async def rotation_rig(
    temporal: str,
    directory: Path,
    edges: Sequence[EdgeWanted],
    *,
    with_lab: Sequence[str] = (),
    ramp: Sequence[int] = RAMP,
    peers: Sequence[str] = PEERS,
    close_after: str | None = CLOSE_AFTER,
    lab_arguments: Sequence[str] = (),
) -> AsyncIterator[Rig]:
    """Real edges that serve A and are called, and a worker whose plan rotates them.

    `with_lab` are endpoints of the lab's own that the plan rotates with them; `peers` and `close_after` are the plan's.
    """
    wanted = [f"--external={edge.name}{':mutual' if edge.mutual else ''}" for edge in edges]
    async with AsyncExitStack() as stack:
        lab = stack.enter_context(running_lab(directory / "lab", *wanted, *lab_arguments))
        paths = {
            edge.name: await stack.enter_async_context(
                edge.path_of(directory / edge.name, parties_of(lab, edge), nodes=edge.nodes)
            )
            for edge in edges
        }
        exporters = [exporter for path in paths.values() for exporter in path.exporters]
        prometheus = Prometheus(directory / "prometheus", exporters)
        stack.push_async_callback(prometheus.stop)
        await prometheus.start()
        settings = _written(
            directory / "settings.toml",
            (lab.directory / "settings.toml").read_text()
            + "".join(platform_settings(name, path, prometheus.url) for name, path in paths.items()),
        )
        endpoints = [endpoint_text(name, path, peers=peers, ramp=ramp) for name, path in paths.items()]
        plan = lab.directory / "plan.toml"
        a_pem = (lab.directory / "certificate-a.pem").read_text()
        plan.write_text(plan_text(plan.read_text(), a_pem, endpoints, with_lab=with_lab, close_after=close_after))
        stage = await stack.enter_async_context(staged(temporal, lab, settings))
        rig = Rig(lab, stage, paths, prometheus)
        for name, path in paths.items():
            await rig.tell_carrier(name, targets=[f"{host}:{port}" for host, port in path.nodes])
        yield rig


@asynccontextmanager
async def traffic(path: TrunkPath, *callers: Callers | RenewedCallers) -> AsyncIterator[Traffic]:
    """Running traffic on a path; it is ended at the latest with the block."""
    running = Traffic(path, list(callers), path.watch())
    try:
        await running.start()
        yield running
    except BaseException as failure:
        failure.add_note(await running.account())
        raise
    finally:
        await running.stop()


async def completes(rotation: Rotation) -> str:
    """Waits for the end of a rotation that succeeds; the SHA-256 of B."""
    try:
        async with asyncio.timeout(ROTATION_S):
            await rotation.handle.result()
    except (WorkflowFailureError, TimeoutError) as failure:
        raise AssertionError(await _where_it_stands(rotation)) from failure
    status = await rotation.status()
    assert status.b is not None
    assert status.a_revoked
    return status.b.sha256


async def reaches(rotation: Rotation, phase: str) -> None:
    """Waits until the rotation enters a phase."""
    try:
        await rotation.reaches(phase)
    except AssertionError as failure:
        raise AssertionError(await _where_it_stands(rotation)) from failure


async def _where_it_stands(rotation: Rotation) -> str:
    """Phase, undecided gates, alerts and last looks, for who reads of a test that failed."""
    status = await rotation.status()
    gates = [(gate.gate, gate.verdict, gate.reason) for gate in status.gates if gate.verdict is not Verdict.PASS]
    alerts = [(alert.kind, alert.summary) for alert in status.alerts]
    looks = await _last_looks(rotation)
    return f"{status.phase}: {status.failure or status.waiting}\n{gates}\n{alerts}\n{looks}"


async def _last_looks(rotation: Rotation) -> list[str]:
    """What watchers that have not decided yet saw last."""
    description = await rotation.handle.describe()
    converter = rotation.client.data_converter
    pending = description.raw_description.pending_activities
    return [str(await converter.decode_failure(one.last_failure)) for one in pending if one.HasField("last_failure")]


def parties_of(lab: LabProcess, edge: EdgeWanted) -> Parties:
    """Who is who on the lab's external trunk of that name."""
    facts, directory = lab.facts["external"][edge.name], lab.directory

    def text(name: str) -> str:
        return (directory / name).read_text()

    return Parties(
        fqdn=facts["fqdn"],
        chain_pem=text("certificate-a.pem"),
        key=SecretStr(text("certificate-a.key")),
        root=directory / "root.pem",
        callers_name=facts["callers_name"],
        callers_pem=text("callers.pem") + text("callers.key"),
        carrier_roots_pem=text("carrier-ca.pem"),
        prober=(directory / "prober.pem", directory / "prober.key"),
        mutual=edge.mutual,
        outbound=(tuple(facts["carrier"]), facts["carrier_name"]) if edge.mutual else None,
    )


def _written(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path
