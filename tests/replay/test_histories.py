"""Every path that a workflow can take is kept as a history, and the code of today still takes it.

When one of these fails: `docs/changing-workflows.md`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError, _Definition

from domain.phases import Phase
from domain.rotation import Cause
from tests.replay import histories
from tests.replay.paths import all_histories
from tests.replay.replaying import replayed, replayer
from worker import WORKFLOWS

NAMES = histories.names()
DOCUMENT = "see docs/changing-workflows.md"


@pytest.mark.parametrize("name", NAMES)
def test_a_rotation_that_took_this_path_goes_on_with_the_code_of_today(name: str) -> None:
    failure = replayed(name).failure
    assert failure is None, f"a rotation in flight would be stuck ({DOCUMENT}, 'Add, remove or reorder'):\n{failure}"


def test_every_workflow_type_of_the_worker_is_in_a_history() -> None:
    kept = {histories.workflow_type(histories.load(name)) for name in NAMES}
    registered = {_Definition.must_from_class(one).name for one in WORKFLOWS}
    assert registered == kept, f"record a path of it ({DOCUMENT}, 'Record the histories again')"


def test_every_phase_is_entered_in_a_history() -> None:
    entered = set().union(*(histories.phases(histories.load(name)) for name in NAMES))
    assert entered == {phase.value for phase in Phase}, f"record a path through it ({DOCUMENT})"


def test_every_cause_has_turned_a_rotation_back_in_a_history() -> None:
    rolled_back = [one for one in map(histories.load, NAMES) if histories.failure_type(one) == "RolledBack"]
    assert {histories.cause(one) for one in rolled_back} == set(Cause), f"record a path of it ({DOCUMENT})"


def test_every_phase_that_can_abort_does_so_in_a_history() -> None:
    aborted = [histories.phases(one) for one in map(histories.load, NAMES) if histories.failure_type(one) == "Aborted"]
    assert aborted
    assert any("ISSUE" in phases for phases in aborted)
    assert any("ISSUE" not in phases for phases in aborted)


def test_every_signal_and_update_reached_a_workflow_in_a_history() -> None:
    sent = set().union(*(histories.messages(histories.load(name)) for name in NAMES))
    defined: set[str | None] = set()
    for one in WORKFLOWS:
        defn = _Definition.must_from_class(one)
        defined |= defn.signals.keys() | defn.updates.keys()
    if None in defined:  # a handler of whatever has no handler of its own
        assert sent - defined, f"record a path on which an unknown one is sent ({DOCUMENT})"
    assert defined - {None} <= sent, f"record a path on which it is sent ({DOCUMENT})"


def test_every_path_of_the_recorder_is_committed() -> None:
    assert set(NAMES) == all_histories(), f"record it ({DOCUMENT}, 'Record the histories again')"


@pytest.mark.parametrize("name", NAMES)
def test_a_history_holds_no_private_key_and_nothing_of_the_machine_that_recorded_it(name: str) -> None:
    history = histories.load(name)
    text = histories.text(history)
    assert "PRIVATE KEY" not in text
    assert not [one for one in _base64(text) if b"PRIVATE KEY" in base64.b64decode(one) or _is_key(one)]
    assert "stackTrace" not in text
    assert "binary/encrypted" not in history.to_json()
    assert not re.search(r'"identity": "\d+@', text)
    assert not re.search(r"/(home|root|work|tmp|Users|private)/", text)


def _base64(text: str) -> list[str]:
    """What could be base64 of something: the bodies of PEM blocks, in one piece, and any other long run."""
    joined = re.sub(r"(?<=[A-Za-z0-9+/=])(\\n|\\r)+(?=[A-Za-z0-9+/=])", "", text)
    runs = set(re.findall(r"[A-Za-z0-9+/]{40,}", joined))
    return [run[: len(run) - len(run) % 4] for run in runs]


def _is_key(encoded: str) -> bool:
    """True for the base64 of an unencrypted private key in DER."""
    try:
        load_der_private_key(base64.b64decode(encoded), password=None)
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def test_a_private_key_would_be_found_in_a_history() -> None:
    """As PEM, as PEM inside base64, and as the bare base64 of a PEM block."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    bare = "".join(pem.splitlines()[1:-1])
    assert any(map(_is_key, _base64(json.dumps({"key": "\n".join(pem.splitlines()[1:-1])}))))
    assert any(map(_is_key, _base64(json.dumps({"key": bare}))))
    hidden = base64.b64encode(pem.encode()).decode()
    assert any(b"PRIVATE KEY" in base64.b64decode(one) for one in _base64(json.dumps({"key": hidden})))


# -- the replay can fail -------------------------------------------------------------------------------------------


def _swapped(history: WorkflowHistory, one: str, other: str) -> WorkflowHistory:
    """The history of a workflow that asked for two activities in the other order."""
    swap = {one: other, other: one}
    changed = WorkflowHistory(history.workflow_id, [type(e).FromString(e.SerializeToString()) for e in history.events])
    for event in changed.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            kind = event.activity_task_scheduled_event_attributes.activity_type
            kind.name = swap.get(kind.name, kind.name)
    return changed


@pytest.mark.parametrize(("one", "other"), [("upload", "bind"), ("remove", "restore"), ("revoke_a", "delete_a")])
def test_a_changed_order_of_steps_is_noticed(one: str, other: str) -> None:
    changed = _swapped(histories.load("completed"), one, other)
    with pytest.raises(NondeterminismError):
        asyncio.run(replayer().replay_workflow(changed))


def test_a_workflow_that_the_worker_does_not_know_is_noticed() -> None:
    history = histories.load("completed")
    unknown = WorkflowHistory(history.workflow_id, [type(e).FromString(e.SerializeToString()) for e in history.events])
    unknown.events[0].workflow_execution_started_event_attributes.workflow_type.name = "Renamed"
    with pytest.raises(Exception, match="Renamed"):
        asyncio.run(replayer().replay_workflow(unknown))
