"""The operator's command line: plan, start, watch, answer and turn back rotations; and the demo.

Temporal is found by the environment (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, …), the encryption key and the
operator's name by the settings file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, TypeAdapter
from rich.console import RenderableType

from desk.desk import Desk, open_desk, terminal
from desk.exit_codes import ExitCode, help_text
from desk.failures import explained
from desk.list_view import list_view
from desk.plan_view import answer, dry_run_view, plan_view
from desk.report import Row
from desk.status_view import status_view
from desk.watch import watch
from domain.gates import Verdict
from domain.phases import Phase
from domain.plan import load_plan
from settings import SETTINGS_VARIABLE
from workflows.messages import Decision, LeftoverChoice

T = TypeVar("T")

app = typer.Typer(
    help="Replaces the TLS certificate of live SIP trunks without losing a call.",
    epilog=f"Exit codes:\n\n{help_text()}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="the plan, a TOML file")]
Rotation = Annotated[str, typer.Argument(metavar="NAME", help="the plan's name, or a workflow id")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Reason = Annotated[str, typer.Option("--reason", help="why; it goes into the evidence")]


@app.callback()
def options(
    context: typer.Context,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", envvar=SETTINGS_VARIABLE, help="settings file (default: settings.toml)"),
    ] = None,
) -> None:
    """Options of every verb."""
    context.obj = settings


@app.command()
def plan(
    context: typer.Context,
    plan_file: PlanFile,
    offline: Annotated[bool, typer.Option("--offline", help="validate and explain only; ask no worker")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a plan would do, and let a worker make every check of PREFLIGHT. Changes nothing."""
    with explained(terminal.errors):
        told = answer(load_plan(plan_file), None)
        if not as_json:
            _show(plan_view(told))
        if not offline:
            found = _at_the_desk(context, lambda desk: desk.rotations.dry_run(told.plan, desk.who))
            told = told.model_copy(update={"dry_run": found})
            if not as_json:
                _show(dry_run_view(found))
        if as_json:
            _print_json(told)
        if told.dry_run is not None and told.dry_run.gate.verdict is not Verdict.PASS:
            raise typer.Exit(ExitCode.FINDINGS)


@app.command()
def start(
    context: typer.Context,
    plan_file: PlanFile,
    wait: Annotated[bool, typer.Option("--wait", help="watch it until it has ended")] = False,
    leftovers: Annotated[
        LeftoverChoice,
        typer.Option("--leftovers", help="what an earlier run left: name and refuse it, go on with it, take it away"),
    ] = LeftoverChoice.REFUSE,
) -> None:
    """Start a plan's rotation. Refused while it is running, and when no worker would work on it."""

    async def begin(desk: Desk) -> ExitCode:
        await desk.rotations.require_worker()
        handle = await desk.rotations.start(told, desk.who, leftovers)
        terminal.say(f"started {handle.id} by {desk.who}, run {handle.first_execution_run_id}")
        return await _watched(desk, handle.id) if wait else desk.follow(told.name)

    with explained(terminal.errors):
        told = load_plan(plan_file)
        raise typer.Exit(_at_the_desk(context, begin))


@app.command()
def status(
    context: typer.Context,
    name: Rotation,
    watching: Annotated[bool, typer.Option("--watch", help="live, until it has ended")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a rotation stands, by which figures, and how to answer it."""

    if watching and as_json:
        raise typer.BadParameter("--watch is for people, --json for programs: ask again instead")

    async def look(desk: Desk) -> ExitCode:
        if watching:
            return await _watched(desk, name)
        report = await desk.rotations.report(name)
        if as_json:
            _print_json(report)
        else:
            _show(status_view(report, link=desk.link(report.row), plain=terminal.plain))
        return ExitCode.FINE

    with explained(terminal.errors):
        raise typer.Exit(_at_the_desk(context, look))


@app.command("list")
def list_rotations(
    context: typer.Context,
    phase: Annotated[Phase | None, typer.Option("--phase", case_sensitive=False, help="only in this phase")] = None,
    platform: Annotated[str | None, typer.Option("--platform", help="only on this platform profile")] = None,
    as_json: AsJson = False,
) -> None:
    """List rotations, the newest first."""
    with explained(terminal.errors):
        rows = _at_the_desk(context, lambda desk: desk.rotations.rows(phase=phase, platform=platform))
        if as_json:
            terminal.raw(TypeAdapter(list[Row]).dump_json(rows, indent=2).decode())
        else:
            _show(list_view(rows))


@app.command()
def approve(
    context: typer.Context,
    name: Rotation,
    gate: Annotated[str, typer.Argument(metavar="GATE", help="the gate that waits, for example prefer")],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Approve a gate that waits. An early, late or repeated approval is refused."""

    async def send(desk: Desk) -> Decision:
        terminal.note(f"approving gate {gate} of {name} as {desk.who}")
        return await desk.rotations.approve(name, gate, desk.who, reason)

    with explained(terminal.errors):
        _decided(_at_the_desk(context, send), as_json)


@app.command()
def rollback(context: typer.Context, name: Rotation, reason: Reason = "", as_json: AsJson = False) -> None:
    """Turn a rotation back to certificate A. Refused when there is no way back."""

    async def send(desk: Desk) -> Decision:
        terminal.note(f"rolling back {name} as {desk.who}")
        return await desk.rotations.roll_back(name, desk.who, reason)

    with explained(terminal.errors):
        _decided(_at_the_desk(context, send), as_json)


@app.command()
def pause(context: typer.Context, name: Rotation, reason: Reason = "", as_json: AsJson = False) -> None:
    """Stop a rotation before its next phase. The guard watches on, and a rollback is heard."""

    async def send(desk: Desk) -> Decision:
        terminal.note(f"pausing {name} as {desk.who}")
        return await desk.rotations.pause(name, desk.who, reason)

    with explained(terminal.errors):
        _decided(_at_the_desk(context, send), as_json)


@app.command()
def resume(context: typer.Context, name: Rotation, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a paused rotation go on; a fresh look at the traffic comes first."""

    async def send(desk: Desk) -> Decision:
        terminal.note(f"resuming {name} as {desk.who}")
        return await desk.rotations.resume(name, desk.who, reason)

    with explained(terminal.errors):
        _decided(_at_the_desk(context, send), as_json)


@app.command()
def extend(
    context: typer.Context,
    name: Rotation,
    hours: Annotated[
        float, typer.Argument(metavar="HOURS", min=0, help="by how much the overlap ends later, for example 24")
    ],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let the overlap end later. Refused when A would not live long enough for it."""

    async def send(desk: Desk) -> Decision:
        terminal.note(f"extending the overlap of {name} by {hours:g} h as {desk.who}")
        return await desk.rotations.extend(name, hours, desk.who, reason)

    with explained(terminal.errors):
        _decided(_at_the_desk(context, send), as_json)


@app.command()
def demo(
    fault: Annotated[
        str | None, typer.Option("--fault", metavar="NAME", help="what goes wrong once B is bound")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="leave everything running at the end, until Ctrl-C")] = False,
    approvals: Annotated[bool, typer.Option("--approvals", help="with approvals, which the demo gives itself")] = False,
    directory: Annotated[
        Path | None, typer.Option("--directory", help="where logs and settings go (default: removed at the end)")
    ] = None,
) -> None:
    """One rotation on this machine, with Temporal, PKI, platforms, carrier and calls. About two minutes."""
    from desk.demo import Demo, DemoOptions  # the lab's packages are not needed by the other verbs

    with explained(terminal.errors):
        wanted = DemoOptions(fault=fault, keep=keep, approvals=approvals, directory=directory)
        raise typer.Exit(asyncio.run(Demo(wanted, terminal.out, plain=terminal.plain).run()))


def _at_the_desk(context: typer.Context, work: Callable[[Desk], Coroutine[Any, Any, T]]) -> T:
    async def connected() -> T:
        return await work(await open_desk(context.obj))

    return asyncio.run(connected())


async def _watched(desk: Desk, name: str) -> ExitCode:
    first = await desk.rotations.report(name)
    report = await watch(terminal.out, desk.rotations, name, link=desk.link(first.row), plain=terminal.plain)
    _show(status_view(report, link=desk.link(report.row), plain=terminal.plain))
    return report.exit_code


def _decided(decision: Decision, as_json: bool) -> None:
    if as_json:
        _print_json(decision)
    else:
        terminal.say(f"{decision.message} {decision.gate or ''}".strip() + f": {decision.outcome}")


def _show(view: RenderableType) -> None:
    terminal.out.print(view, highlight=False)


def _print_json(model: BaseModel) -> None:
    terminal.raw(model.model_dump_json(indent=2))


def main() -> None:
    """The program `sip-rotate`: never returns."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    os._exit(code)  # the SDK's native runtime sometimes aborts at interpreter exit


if __name__ == "__main__":
    main()
