"""The next version of the product, as a copy of the source tree with a change in it.

The change is an ordinary one: operations hear of two more moments. The first lies behind a rotation that has reached
its overlap, the second before it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("workflows", "activities", "adapters", "domain", "codec", "worker.py", "connection.py", "settings")
STEPS = Path("workflows/steps.py")

IN_ISSUE = "notice-in-issue"
IN_HOLD = "notice-in-hold"

_ISSUE = "        await self._enter(Phase.ISSUE)\n"
_HOLD = "        await self._enter(Phase.HOLD)\n"
_TOLD_IN_ISSUE = 'self._conduct.people.alert("issuing", Severity.INFO, "B is being issued")\n'
_TOLD_IN_HOLD = 'self._conduct.people.alert("quarantine", Severity.INFO, "A is out of use and still valid")\n'

GUARDED = {
    _ISSUE: f'{_ISSUE}        if workflow.patched("{IN_ISSUE}"):\n            {_TOLD_IN_ISSUE}',
    _HOLD: f'{_HOLD}        if workflow.patched("{IN_HOLD}"):\n            {_TOLD_IN_HOLD}',
}
UNGUARDED = {_ISSUE: f"{_ISSUE}        {_TOLD_IN_ISSUE}", _HOLD: f"{_HOLD}        {_TOLD_IN_HOLD}"}


def next_version(directory: Path, changes: dict[str, str], *, with_tests: bool = False) -> Path:
    """A copy of the sources in `directory`, changed. Raises `LookupError` when a text to change is not there once."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (*SOURCES, *(("tests/replay", "tests/__init__.py") if with_tests else ())):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, directory / name)
    text = (ROOT / STEPS).read_text(encoding="utf-8")
    for old, new in changes.items():
        if text.count(old) != 1:
            raise LookupError(f"{old!r} stands {text.count(old)} times in {STEPS}: this test needs another place")
        text = text.replace(old, new)
    (directory / STEPS).write_text(text, encoding="utf-8")
    return directory
