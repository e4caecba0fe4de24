"""`worker.py` with one workflow more, whose thread does not let go, as native code or a starved machine does.

python -m tests.e2e.held_up_worker --settings FILE
"""

from __future__ import annotations

import sys
import threading

from temporalio import workflow

import worker

LET_GO = threading.Event()


@workflow.defn(sandboxed=False)
class HeldUp:
    """Holds its thread."""

    @workflow.run
    async def run(self) -> None:
        """Never returns, and is not interrupted: the SDK's exception waits for the end of the call."""
        print("thread held", flush=True)
        LET_GO.wait()


if __name__ == "__main__":
    worker.WORKFLOWS = (*worker.WORKFLOWS, HeldUp)
    sys.exit(worker.main())
