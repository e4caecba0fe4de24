"""The process that does the work: workflows and activities of the task queue `sip-tls-rotation`.

    python worker.py [--settings FILE] [--build-id VERSION]

Temporal is found by the environment (`TEMPORAL_ADDRESS`, …), everything else by the settings file. SIGTERM and SIGINT
drain: running activities get their time to end. Exit code 0 after a drain, 2 for wrong settings, 3 when Temporal
cannot be reached, 4 when a rotation needs an encryption key that the settings do not name, 5 when something held on to
the worker beyond the drain: nothing is lost by leaving it, as after a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.carrier import CarrierActivities
from activities.certificate import CertificateActivities
from activities.edge import EdgeActivities
from activities.failures import FailureInterceptor
from activities.health import HealthActivities
from activities.leases import LeaseActivities
from activities.leftovers import LeftoverActivities
from activities.preflight import PreflightActivities
from adapters.registry import Adapters
from codec.encryption import KeyMissing
from codec.missing_keys import MissingKeys
from connection import TASK_QUEUE, connect, polled, register_search_attributes
from domain.errors import RotatorError, SettingsInvalid
from settings import load_settings
from workflows.attributes import ALL as SEARCH_ATTRIBUTES
from workflows.dry_run import RotationDryRun
from workflows.lease import EndpointLease
from workflows.rotation import CertificateRotation
from workflows.runner import RotationRunner

DEPLOYMENT = "sip-tls-rotator"
"""Name of the worker deployment, for those who deploy in versions."""

STICKY_TIMEOUT = timedelta(seconds=1)
"""After a worker's death its workflows go to another one this soon (FACTS: failover)."""

GRACE = timedelta(seconds=10)
"""Above the 8 s that an acting activity may take."""

BEYOND_GRACE_S = 5.0
"""For the end of what is not an activity. The SDK itself waits for ever where a workflow's thread does not let go."""

HELD_UP = 5
"""Exit code of a worker that could not end in order."""

HEARD_AFTER_S = 0.05
"""Between two questions whether the server knows of our poll."""

logger = logging.getLogger("worker")


WORKFLOWS: tuple[type, ...] = (CertificateRotation, EndpointLease, RotationDryRun)
"""Every workflow type of the task queue."""


def utc_now() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


def activities(adapters: Adapters, clock: Callable[[], datetime] = utc_now) -> list[Callable[..., Any]]:
    """Every activity of the task queue; `clock` is what they take for now."""
    certificate, edge = CertificateActivities(adapters, clock), EdgeActivities(adapters, clock)
    health, preflight = HealthActivities(adapters, clock), PreflightActivities(adapters, clock)
    carrier, leases, leftovers = CarrierActivities(adapters), LeaseActivities(), LeftoverActivities(adapters)
    return [
        preflight.examine_worker,
        preflight.examine_endpoint,
        leases.lease_holder,
        leases.lease_looked_at,
        leftovers.find_leftovers,
        certificate.issue,
        certificate.discard,
        certificate.revoke_a,
        certificate.destroy_key_of_a,
        certificate.revoke_strays,
        edge.upload,
        edge.bind,
        edge.prefer,
        edge.close_connections,
        edge.remove,
        edge.restore,
        edge.delete_a,
        edge.serve_a_alone,
        edge.settings_back,
        edge.delete_b,
        health.readiness,
        health.soak,
        health.verify,
        health.adopt,
        health.drain,
        health.guard,
        carrier.notify,
    ]


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox of every workflow; what replays a history uses the same."""
    passed = ("pydantic", "pydantic_core", "annotated_types", "cryptography", "httpx", "hvac", "domain", "settings")
    return RotationRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*passed))


def build_worker(
    client: Client,
    adapters: Adapters,
    *,
    identity: str | None = None,
    clock: Callable[[], datetime] = utc_now,
    build_id: str | None = None,
) -> Worker:
    """The worker with every workflow and activity; the caller runs it.

    With `build_id` it is a version of the deployment `DEPLOYMENT`: a rotation stays with the version it began on
    (docs/changing-workflows.md).
    """
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=WORKFLOWS,
        activities=activities(adapters, clock),
        workflow_runner=workflow_runner(),
        interceptors=[FailureInterceptor()],
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        graceful_shutdown_timeout=GRACE,
        identity=identity,
        deployment_config=_pinned(build_id) if build_id is not None else None,
    )


def _pinned(build_id: str) -> WorkerDeploymentConfig:
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=DEPLOYMENT, build_id=build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def run(settings_file: Path | None, build_id: str | None = None) -> None:
    """Works until SIGTERM or SIGINT, and ends the process where the drain does not end.

    Raises `KeyMissing` when a rotation cannot go on here without a key.
    """
    settings = load_settings(settings_file)
    adapters = Adapters(settings)
    keys = MissingKeys()
    client = await connect(settings, missing_key=keys.hear)
    await register_search_attributes(client, SEARCH_ATTRIBUTES)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = build_worker(client, adapters, build_id=build_id)
    async with worker:
        logger.info("working on task queue %s, namespace %s", TASK_QUEUE, client.namespace)
        ready = asyncio.create_task(_say_ready(client))
        asked, missing = asyncio.create_task(stop.wait()), asyncio.create_task(keys.needed(client))
        await asyncio.wait([asked, missing], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if missing.done():
            logger.error("stopping: %s", missing.result())
        logger.info("draining for at most %s", GRACE)
        await _drain(worker)
    await adapters.close()
    asked.cancel()
    if missing.done():
        raise missing.result()
    missing.cancel()


async def _drain(worker: Worker) -> None:
    try:
        async with asyncio.timeout(GRACE.total_seconds() + BEYOND_GRACE_S):
            await worker.shutdown()
    except TimeoutError:
        logger.error("the worker is held up by a task that does not end; leaving it to another worker")
        _leave(HELD_UP)


def _leave(code: int) -> NoReturn:
    """Ends the process at once: the SDK's native runtime sometimes aborts at interpreter exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _say_ready(client: Client) -> None:
    """Says so once the server has heard of us: whoever starts a rotation then finds a worker."""
    while not await _heard(client):  # noqa: ASYNC110 – the server tells nobody, it has to be asked
        await asyncio.sleep(HEARD_AFTER_S)
    print("worker ready", flush=True)


async def _heard(client: Client) -> bool:
    try:
        return await polled(client)
    except RPCError as error:
        logger.warning("Temporal cannot say whether it knows this worker: %s", error.message)
        return False


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--settings", type=Path, help="default: $SIP_ROTATE_SETTINGS, then settings.toml")
    parser.add_argument("--build-id", metavar="VERSION", help="work as this version of a versioned deployment")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(run(arguments.settings, arguments.build_id))
    except SettingsInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except RotatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    _leave(main())
