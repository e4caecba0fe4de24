"""Records the histories again: `python -m tests.replay.record [--only NAME …]`.

Starts a Temporal server, the lab and a worker, takes every path of `tests.replay.paths` and writes what came of it to
`tests/replay/histories/`. Exit code 0 when every path was recorded, 1 when one was not; what is committed of that
path stays as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

from temporalio.client import WorkflowHistory

from lab.temporal_server import TemporalServer
from tests.e2e.conftest import LabHouse
from tests.replay import histories
from tests.replay.paths import PATHS, all_histories
from tests.replay.recording import recording
from tests.replay.replaying import replayer


class NotForOthers(Exception):
    """A history says something that is nobody else's business."""


async def record(names: list[str], directory: Path) -> list[str]:
    """Takes the paths one after another. Returns the names of those that failed."""
    failed: list[str] = []
    lab_house = LabHouse(directory / "labs")
    server_directory = directory / "temporal"
    server_directory.mkdir()
    try:
        with TemporalServer(server_directory) as server:
            for name in names:
                began = time.monotonic()
                try:
                    written = await _take(name, server.address, lab_house, directory)
                except Exception:
                    traceback.print_exc()
                    print(f"{name}: NOT recorded", flush=True)
                    failed.append(name)
                else:
                    print(f"{name}: {', '.join(written)} ({time.monotonic() - began:.1f} s)", flush=True)
    finally:
        lab_house.close()
    return failed


async def _take(name: str, address: str, lab_house: LabHouse, directory: Path) -> list[str]:
    lab = lab_house.lab()
    try:
        async with recording(address, lab) as stage:
            await PATHS[name].take(stage)
            found = await stage.histories()
    finally:
        lab.calm()
    if set(found) != set(PATHS[name].histories):
        raise LookupError(f"{name} gave {', '.join(sorted(found))}, not {', '.join(PATHS[name].histories)}")
    written = []
    for what, history in found.items():
        scrubbed = histories.scrubbed(history)
        refuse_what_is_ours(scrubbed, directory)
        await replayer().replay_workflow(scrubbed)
        kept = histories.dump(scrubbed)
        (histories.DIRECTORY / f"{what}.json.gz").write_bytes(kept)
        written.append(f"{what} {len(history.events)} events, {len(kept) / 1024:.0f} KiB")
    return written


def refuse_what_is_ours(history: WorkflowHistory, directory: Path) -> None:
    """Raises `NotForOthers` when the history names a path or the host of this machine, or holds a private key."""
    text = histories.text(history)
    root = str(Path(__file__).resolve().parents[2])
    ours = {root, str(directory), str(Path.home()), sys.prefix, tempfile.gettempdir(), f"@{socket.gethostname()}"} - {
        "/"
    }
    named = sorted(one for one in ours if one in text)
    if named or "PRIVATE KEY" in text:
        raise NotForOthers(f"{history.workflow_id}: {', '.join(named) or 'a private key'}")


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=sorted(PATHS), metavar="NAME", help=", ".join(PATHS))
    names = parser.parse_args().only or list(PATHS)
    logging.basicConfig(level=logging.CRITICAL)  # what fails on these paths is meant to fail
    histories.DIRECTORY.mkdir(exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sip-rotate-record-") as directory:
        failed = asyncio.run(record(names, Path(directory)))
    print(f"{len(names) - len(failed)} of {len(names)} paths in {time.monotonic() - began:.0f} s")
    for gone in set(histories.names()) - all_histories():
        (histories.DIRECTORY / f"{gone}.json.gz").unlink()
        print(f"{gone}: removed, no path gives it any more")
    if failed:
        print(f"not recorded: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the SDK's native runtime sometimes aborts at interpreter exit
