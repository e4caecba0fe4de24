"""`python -m lab run --directory DIR` and `python -m lab faults`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from lab.bao import BaoFailed
from lab.external_trunks import ExternalTrunk
from lab.faults import FAULTS
from lab.lab_names import CXONE, GENESYS
from lab.vault_setup import VaultNotFresh
from lab.world import WorldOptions, running_world
from lab.world_files import LAB_FILE, DirectoryInUse


def main() -> int:
    """Exit codes: 0 stopped as asked, 1 could not start, 2 wrong arguments."""
    arguments = _parser().parse_args()
    if arguments.verb == "faults":
        for name, description in FAULTS.items():
            print(f"{name:27}  {description}")
        return 0
    try:
        options = _options(arguments)
        asyncio.run(_run(options))
    except (BaoFailed, DirectoryInUse, OSError, VaultNotFresh) as error:
        print(f"the lab could not start: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: WorldOptions) -> None:
    """Run until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    async with running_world(options) as world:
        print(f"lab is ready: {world.facts['control']}/lab/state, {options.directory / LAB_FILE}", flush=True)
        await stopping.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Stand-ins for what a laptop does not have.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("faults", help="list the faults that can be armed")
    run = verbs.add_parser("run", help="start the lab; stop it with Ctrl-C or SIGTERM")
    run.add_argument("--directory", type=Path, required=True, help="where secrets, plan, settings, lab.json go")
    run.add_argument("--fault", action="append", default=[], choices=FAULTS, metavar="NAME", help="arm a fault")
    run.add_argument("--vault-address", help="a fresh Vault or OpenBao instead of our own")
    run.add_argument("--vault-token-file", type=Path, help="file with its root token")
    run.add_argument("--approvals", action="store_true", help="the plan waits for both approvals")
    run.add_argument("--speed", choices=("demo", "test"), default="demo", help="how long the plan's waits are")
    run.add_argument("--call-rate", type=_positive, default=4.0, metavar="N", help="calls per second and trunk")
    run.add_argument(
        "--long-call", type=_positive, metavar="SECONDS", help="one more call per trunk from the start, this long"
    )
    run.add_argument("--tap", action="store_true", help="settings name taps, which hold and lose requests when told to")
    run.add_argument("--other-trunk", action="store_true", help="a second Genesys trunk presents certificate A")
    run.add_argument("--nodes", type=int, choices=range(1, 5), default=1, help="nodes of the Genesys trunk")
    run.add_argument(
        "--persistent",
        action="append",
        default=[],
        choices=(GENESYS, CXONE),
        help="all calls of this trunk share one connection that never ages out",
    )
    run.add_argument("--dormant-peer", action="store_true", help="a second carrier, silent, that will refuse B")
    run.add_argument("--observed", action="store_true", help="the Genesys trunk has an observer on its other side")
    run.add_argument(
        "--external",
        action="append",
        default=[],
        type=ExternalTrunk.parsed,
        metavar="NAME[:mutual]",
        help="a trunk whose edge is started by somebody else, who says where it listens (POST /lab/external)",
    )
    run.add_argument("--web-ui", default="http://127.0.0.1:8233", help="Temporal Web UI that the settings name")
    return parser


def _options(arguments: argparse.Namespace) -> WorldOptions:
    vault: tuple[str, str] | None = None
    if arguments.vault_address or arguments.vault_token_file:
        if not (arguments.vault_address and arguments.vault_token_file):
            _parser().error("--vault-address and --vault-token-file go together")
        vault = arguments.vault_address, arguments.vault_token_file.read_text(encoding="utf-8").strip()
    return WorldOptions(
        directory=arguments.directory,
        faults=tuple(arguments.fault),
        vault=vault,
        approvals=arguments.approvals,
        speed=arguments.speed,
        call_rate=arguments.call_rate,
        long_call_s=arguments.long_call,
        web_ui=arguments.web_ui,
        nodes=arguments.nodes,
        other_trunk=arguments.other_trunk,
        persistent=tuple(arguments.persistent),
        dormant_peer=arguments.dormant_peer,
        observed=arguments.observed,
        external=tuple(arguments.external),
        tap=arguments.tap,
    )


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("must be a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())
