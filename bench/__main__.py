"""`python -m bench [TABLE]`: makes one table, or all of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.loss import loss_table, row_size
from bench.machine import this_machine
from bench.report import write
from bench.rollback_report import RollbackTable
from bench.rollback_report import write as write_rollbacks
from bench.rollbacks import cases, measured
from bench.rows import ROWS

TABLES = ("loss", "rollback")
RESULTS = Path(__file__).with_name("results")
app = typer.Typer(add_completion=False)


@app.callback()
def bench() -> None:
    """Measures what a change of certificate costs on real SIP edges. Without the name of a table it makes all."""


@app.command()
def loss(
    calls: Annotated[int, typer.Option(envvar="BENCH_CALLS", min=1, help="calls, all rows together")] = 16_000,
    handshakes: Annotated[
        int, typer.Option(envvar="BENCH_HANDSHAKES", min=1, help="handshakes, all rows together")
    ] = 108_000,
    rate: Annotated[float, typer.Option(envvar="BENCH_RATE", min=0.1, help="calls per second")] = 25.0,
    row: Annotated[list[str] | None, typer.Option(help=f"one of: {', '.join(one.key for one in ROWS)}")] = None,
    results: Annotated[Path, typer.Option(envvar="BENCH_RESULTS", help="where the files go")] = RESULTS,
) -> None:
    """Calls and handshakes lost by a rotation, and by a restart. Exit code 1: a rotation lost something."""
    unknown = set(row or ()) - {one.key for one in ROWS}
    if unknown:
        raise typer.BadParameter(f"there is no row {', '.join(sorted(unknown))}")
    rows = [one for one in ROWS if not row or one.key in row]
    command = f"python -m bench loss --calls {calls} --handshakes {handshakes} --rate {rate:g}"
    command += "".join(f" --row {key}" for key in row or ())
    table = asyncio.run(loss_table(rows, row_size(calls, handshakes, rate, len(rows)), command, typer.echo))
    write(table, results)
    typer.echo(f"written to {results.name}/: loss.json, loss.md, loss.png")
    raise typer.Exit(0 if table.rotations_lost_nothing else 1)


@app.command()
def rollback(
    rounds: Annotated[int, typer.Option(envvar="BENCH_ROUNDS", min=1, help="of 26 rollbacks each")] = 2,
    edge: Annotated[list[str] | None, typer.Option(help="lab, haproxy or kamailio; default: all")] = None,
    results: Annotated[Path, typer.Option(envvar="BENCH_RESULTS", help="where the files go")] = RESULTS,
) -> None:
    """From a breach, or a signal, to A alone read back. Exit code 1: one took 30 s or more, or did not end so."""
    wanted = [case for case in cases(rounds) if not edge or case.edge in edge]
    if not wanted:
        raise typer.BadParameter(f"there is no edge {', '.join(edge or ())}")
    command = f"python -m bench rollback --rounds {rounds}" + "".join(f" --edge {one}" for one in edge or ())
    machine, before = this_machine(), os.getloadavg()[0]
    took = asyncio.run(measured(wanted, typer.echo))
    table = RollbackTable(command, machine, tuple(took), (before, os.getloadavg()[0]))
    write_rollbacks(table, results)
    typer.echo(f"written to {results.name}/: rollback.json, rollback.md, rollback.png")
    raise typer.Exit(0 if table.all_in_time else 1)


def main() -> None:
    """Leaves at once, without the interpreter's shutdown, in which the Temporal SDK can abort a finished process."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # what runs is ended in order
    asked = sys.argv[1:]
    code = max(_run(arguments) for arguments in ([asked] if asked else [[table] for table in TABLES]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(arguments: list[str]) -> int:
    try:
        app(arguments, prog_name="python -m bench")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    return 0


if __name__ == "__main__":
    main()
