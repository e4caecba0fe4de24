"""`demo`: one rotation on this machine, from nothing to the proof; everything that it started is gone afterwards."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from temporalio.service import RPCError

from adapters.carriers.base import Carrier
from adapters.carriers.http_health import HttpHealthCarrier
from connection import connect
from desk.commands import program
from desk.demo_operator import Operator
from desk.demo_summary import Outcome, summary_view
from desk.demo_view import DemoView, ended, heading
from desk.lab_client import LabClient, LabFile, LabState
from desk.report import Report
from desk.rotations import Rotations
from desk.served import served_everywhere
from desk.stage import Stage, StageOptions
from desk.traffic import Traffic, shares_on_b, traffic
from domain.errors import RotatorError, SettingsInvalid
from domain.plan import Plan, load_plan
from domain.rotation import rotation_id
from lab.faults import FAULTS
from settings import Settings, load_settings

LOOK_EVERY_S = 0.5
LIMIT_S = 600.0
"""After this the demo gives up: it normally takes two minutes."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoTooLong(RotatorError):
    """The rotation did not end in the demo's time."""


@dataclass(frozen=True)
class DemoOptions:
    """As given on the command line."""

    fault: str | None = None
    keep: bool = False
    approvals: bool = False
    directory: Path | None = None


class Demo:
    """One demo. `run` returns the exit code, and leaves nothing behind however it ends."""

    def __init__(self, options: DemoOptions, console: Console, *, plain: bool = False) -> None:
        """Raises `SettingsInvalid` for a fault that the lab does not know."""
        if options.fault is not None and options.fault not in FAULTS:
            known = "\n  ".join(f"{name:27}  {what}" for name, what in FAULTS.items())
            raise SettingsInvalid(
                f"the lab knows no such fault; it knows:\n  {known}", where=f"--fault {options.fault}"
            )
        self._options, self._console, self._plain = options, console, plain
        self._code: int | None = None
        self._interrupted: int | None = None
        self._ending = False

    async def run(self) -> int:
        """The whole demo, from the first process to the last one's end."""
        self._catch_signals()
        directory = self._directory()
        stage = Stage(StageOptions(directory, fault=self._options.fault, approvals=self._options.approvals))
        failed = False
        try:
            await self._play(stage)
        except asyncio.CancelledError:
            if self._interrupted is None:
                raise
        except BaseException:
            failed = True
            self._say(stage.tails())
            raise
        finally:
            self._ending = True
            self._say("stopping everything")
            for name in await stage.close():
                self._say(f"{name} did not stop and was killed")
            if failed or self._options.keep or self._options.directory is not None:
                self._say(f"logs are in {directory}")
            else:
                shutil.rmtree(directory, ignore_errors=True)
        return self._code if self._code is not None else 128 + (self._interrupted or 0)

    async def _play(self, stage: Stage) -> None:
        self._say("starting" + (f", fault {self._options.fault} armed" if self._options.fault else ""))
        lab_file = await stage.open(self._say)
        async with LabClient(lab_file) as lab:
            try:
                async with asyncio.timeout(LIMIT_S):
                    outcome = await self._rotate(stage, lab)
            except TimeoutError:
                raise DemoTooLong("the demo did not end", seen=f"{LIMIT_S:.0f} s have passed") from None
            self._console.print(summary_view(outcome), highlight=False)
            self._code = outcome.exit_code
            if self._options.keep:
                await self._stay(stage, lab, outcome.settled)

    async def _rotate(self, stage: Stage, lab: LabClient) -> Outcome:
        settings, plan = load_settings(lab.lab.settings), load_plan(lab.lab.plan)
        rotations = Rotations(await connect(settings))
        handle = await rotations.start(plan, "demo")
        link = f"{stage.web_ui}/namespaces/default/workflows/{handle.id}/{handle.first_execution_run_id}"
        self._say(heading(stage.web_ui, link, str(lab.lab.settings.parent)))
        carriers: dict[str, Carrier] = {name: HttpHealthCarrier(name, p) for name, p in settings.carriers.items()}
        try:
            with DemoView(self._console, web_ui=stage.web_ui, plan=plan, plain=self._plain) as view:
                report, lost_before_a = await self._watch(stage, rotations, lab, plan, carriers, view)
        finally:
            for carrier in carriers.values():
                await carrier.close()
        self._say(ended(report))
        return await _outcome(report, lab, plan, settings, lost_before_a)

    async def _watch(
        self,
        stage: Stage,
        rotations: Rotations,
        lab: LabClient,
        plan: Plan,
        carriers: Mapping[str, Carrier],
        view: DemoView,
    ) -> tuple[Report, int | None]:
        """Until the end; and how many calls were lost when A was back alone, if it came to that."""
        operator = Operator(rotations, view.note, fault=self._options.fault)
        lost_before_a: int | None = None
        while True:
            stage.check()
            report = await _look(rotations, plan)
            if report is not None:
                state = await lab.state()
                if lost_before_a is None and _a_is_back(report):
                    lost_before_a = state.lost
                view.update(report, await _traffic(report, state, plan, lab.lab, carriers))
                await operator.look(report)
                if report.final:
                    return report, lost_before_a
            await asyncio.sleep(LOOK_EVERY_S)

    async def _stay(self, stage: Stage, lab: LabClient, state: LabState) -> None:
        for trunk in state.trunks:
            await lab.call_again(trunk)
        self._say(f"everything goes on running until Ctrl-C; Web UI {stage.web_ui}; in another terminal:")
        self._say(
            f"  export TEMPORAL_ADDRESS={stage.temporal} SIP_ROTATE_SETTINGS={shlex.quote(str(lab.lab.settings))}"
        )
        self._say(f"  {program()} list")
        while True:
            stage.check()
            await asyncio.sleep(LOOK_EVERY_S)

    def _directory(self) -> Path:
        if self._options.directory is None:
            return Path(tempfile.mkdtemp(prefix="sip-rotate-demo-"))
        self._options.directory.mkdir(parents=True, exist_ok=True)
        return self._options.directory.resolve()

    def _catch_signals(self) -> None:
        """The first signal ends the demo in order; further ones change nothing, since it is ending already."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt(number: int) -> None:
            if self._interrupted is None and not self._ending:
                self._interrupted = number
                task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, interrupt, number)

    def _say(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True, highlight=False)


async def _look(rotations: Rotations, plan: Plan) -> Report | None:
    """One look; a busy laptop may miss one."""
    try:
        return await rotations.report(rotation_id(plan.name))
    except RPCError:
        return None


def _a_is_back(report: Report) -> bool:
    rollback = report.status.rollback if report.status else None
    return rollback is not None and rollback.a_alone_at is not None


async def _traffic(
    report: Report, state: LabState, plan: Plan, lab: LabFile, carriers: Mapping[str, Carrier]
) -> dict[str, Traffic]:
    b = report.status.b.sha256 if report.status and report.status.b else None
    return traffic(state, plan, lab.certificate_a, await shares_on_b(plan, carriers, b))


async def _outcome(
    report: Report, lab: LabClient, plan: Plan, settings: Settings, lost_before_a: int | None
) -> Outcome:
    """Fresh handshakes while calls still run, then the final count, then what the PKI itself says."""
    served = await served_everywhere(plan.endpoints)
    settled = await lab.settle()
    status, profile = report.status, settings.pki[plan.certificate.ca]
    mounts = dict.fromkeys((profile.mount, *profile.issuing_mounts))
    return Outcome(
        report=report,
        settled=settled,
        served=tuple(served),
        a_revoked_at=await lab.revoked_at(mounts, status.a.serial) if status and status.a else None,
        b_revoked_at=await lab.revoked_at(mounts, status.b.serial) if status and status.b else None,
        lost_before_a=lost_before_a,
    )
