"""What a running rotation depends on and no replay checks: names, arguments, options, schemas, ids.

`python -m tests.replay.contract` writes `contract.json` again. Everything in it is derived from the code of today:
names and types from what the worker registers, options from what the workflows ask for while the committed histories
are replayed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.worker import StartActivityInput, StartChildWorkflowInput

from adapters.registry import Adapters
from connection import TASK_QUEUE
from desk.rotations import TASK_TIMEOUT
from domain.plan import Plan, duration_text
from domain.rotation import lease_id, rotation_id, run_key
from tests.replay import histories
from tests.replay.replaying import replayed
from worker import WORKFLOWS, activities
from workflows import attributes, messages

FILE = Path(__file__).with_name("contract.json")
WORKFLOW_SOURCES = Path(messages.__file__).parent

Json = dict[str, Any]


def derived() -> Json:
    """The contract of the code of today."""
    types: set[type[BaseModel]] = set()
    contract = {
        "task queue": TASK_QUEUE,
        "workflow task timeout": _text(TASK_TIMEOUT),
        "ids": _ids(),
        "search attributes": {key.name: key.indexed_value_type.name for key in attributes.ALL},
        "patches": sorted(patches()),
        "workflows": {name: _workflow(defn, types) for name, defn in _workflows().items()},
        "activities": {name: _activity(defn, types) for name, defn in _activities().items()},
        "messages": sorted(_named(model, types) for model in _messages()),
    }
    _add_what_is_asked_for(contract)
    contract["schemas"] = _schemas(types)
    return cast("Json", json.loads(json.dumps(contract)))


def committed() -> Json:
    """The contract as it is committed."""
    return cast("Json", json.loads(FILE.read_text(encoding="utf-8")))


def as_text(contract: Json) -> str:
    """A contract as it is committed: one that people read, and that shows in a diff what changed."""
    return json.dumps(contract, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Every place at which two contracts differ, one line each: what stands there now, and what stood there."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            path = f"{where} / {key}" if where else key
            if key not in after:
                yield f"{path}: gone, was {_short(before[key])}"
            elif key not in before:
                yield f"{path}: new, {_short(after[key])}"
            else:
                yield from differences(before[key], after[key], path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from (f"{where}: gone, was {_short(one)}" for one in before if one not in after)
        yield from (f"{where}: new, {_short(one)}" for one in after if one not in before)
    elif before != after:
        yield f"{where}: {_short(after)}, was {_short(before)}"


def patches() -> set[str]:
    """The ids of every `workflow.patched` and `workflow.deprecate_patch` in the workflows."""
    found = set()
    for source in WORKFLOW_SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                called, first = node.func.attr, node.args[0]
                if called in {"patched", "deprecate_patch"} and isinstance(first, ast.Constant):
                    found.add(f"{called} {first.value}")
    return found


# -- what is registered --------------------------------------------------------------------------------------------


def _workflows() -> dict[str, workflow._Definition]:
    found = [workflow._Definition.must_from_class(one) for one in WORKFLOWS]
    return {str(defn.name): defn for defn in found}


def _activities() -> dict[str, activity._Definition]:
    found = [activity._Definition.must_from_callable(one) for one in activities(cast("Adapters", None))]
    return {str(defn.name): defn for defn in found}


def _messages() -> list[type[BaseModel]]:
    """What the payload of a signal or update is parsed as."""
    return messages._Message.__subclasses__()


def _workflow(defn: workflow._Definition, types: set[type[BaseModel]]) -> Json:
    return {
        "takes": [_named(one, types) for one in defn.arg_types or []],
        "returns": _named(defn.ret_type, types),
        "signals": sorted(name or "any other" for name in defn.signals),
        "queries": {str(name): _named(query.ret_type, types) for name, query in defn.queries.items()},
        "updates": {str(name): _named(update.ret_type, types) for name, update in defn.updates.items()},
    }


def _activity(defn: activity._Definition, types: set[type[BaseModel]]) -> Json:
    return {
        "takes": [_named(one, types) for one in defn.arg_types or []],
        "returns": _named(defn.ret_type, types),
    }


def _named(kind: Any, types: set[type[BaseModel]]) -> str:
    """The name of a type; a model's schema is frozen beside it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        types.add(kind)
    return "nothing" if kind in (None, type(None)) else str(getattr(kind, "__name__", kind))


def _schemas(types: set[type[BaseModel]]) -> Json:
    """Every model, one line a field; a field that has to be there says so."""
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, together = models_json_schema([(kind, "validation") for kind in ordered])
    return {name: _fields(schema) for name, schema in together["$defs"].items()}


def _fields(schema: Json) -> Json | str:
    if "properties" not in schema:
        return _kind(schema)
    required = schema.get("required", [])
    fields = {
        name: f"{_kind(field)}{', required' if name in required else ''}"
        for name, field in schema["properties"].items()
    }
    return {**fields, "unknown keys": "refused" if schema.get("additionalProperties") is False else "ignored"}


def _kind(schema: Json) -> str:
    """A JSON schema in one line: nothing is left out but titles and descriptions, whose words bind nobody."""
    rest = {key: value for key, value in schema.items() if key not in {"title", "description"}}
    if "$ref" in rest:
        said = rest.pop("$ref").rsplit("/", 1)[-1]
    elif "anyOf" in rest:
        said = " | ".join(_kind(one) for one in rest.pop("anyOf"))
    elif isinstance(rest.get("items"), dict):
        said = f"{rest.pop('type', 'array')} of ({_kind(rest.pop('items'))})"
    elif isinstance(rest.get("additionalProperties"), dict):
        said = f"{rest.pop('type', 'object')} of ({_kind(rest.pop('additionalProperties'))})"
    else:
        said = str(rest.pop("type", "anything"))
    return ", ".join([said, *(f"{key} {json.dumps(value, sort_keys=True)}" for key, value in sorted(rest.items()))])


# -- what the workflows ask for ------------------------------------------------------------------------------------


def _add_what_is_asked_for(contract: Json) -> None:
    failures: dict[str, set[str]] = {}
    for name in histories.names():
        history, replay = histories.load(name), replayed(name)
        if replay.failure is not None:
            raise RuntimeError(f"{name} does not replay: record the histories again first") from replay.failure
        asked = replay.asked
        deadlines = _deadlines(histories.plan(history)) if asked.activities else {}
        for request in asked.activities:
            _collect(contract["activities"].setdefault(request.activity, {}), _options(request, deadlines))
        for child in asked.children:
            _collect(contract["workflows"].setdefault(child.workflow, {}), _child_options(child))
        if (failed := histories.failure_type(history)) is not None:
            failures.setdefault(histories.workflow_type(history), set()).add(failed)
    for kind, found in failures.items():
        contract["workflows"][kind]["fails as"] = sorted(found)


def _collect(entry: Json, options: str) -> None:
    """One way of asking, beside those seen so far."""
    entry["asked for with"] = sorted({*entry.get("asked for with", []), options})


def _options(request: StartActivityInput, deadlines: dict[timedelta, str]) -> str:
    to_close = request.schedule_to_close_timeout
    return _line(
        request.cancellation_type.name,
        start_to_close=_text(request.start_to_close_timeout),
        schedule_to_close=deadlines.get(to_close, _text(to_close)) if to_close else None,
        schedule_to_start=_text(request.schedule_to_start_timeout),
        heartbeat=_text(request.heartbeat_timeout),
        retry=_retry(request.retry_policy),
        task_queue=request.task_queue,
    )


def _child_options(child: StartChildWorkflowInput) -> str:
    return _line(
        child.cancellation_type.name,
        id=re.sub(r"(?<=^lease/).*", "…", child.id),
        parent_close_policy=child.parent_close_policy.name,
        id_reuse=child.id_reuse_policy.name,
        execution_timeout=_text(child.execution_timeout),
        run_timeout=_text(child.run_timeout),
        task_timeout=_text(child.task_timeout),
        retry=_retry(child.retry_policy),
        task_queue=child.task_queue,
    )


def _line(first: str, **options: str | None) -> str:
    """Options in one line; those that are not set are left out."""
    return ", ".join([first, *(f"{key.replace('_', ' ')} {value}" for key, value in options.items() if value)])


def _deadlines(plan: Plan) -> dict[timedelta, str]:
    """The deadlines that a plan states, so that the contract says which one it is and not how long it is in a lab."""
    found: dict[timedelta, list[str]] = {}
    for name, value in plan.timings:
        if name.endswith("_deadline"):
            found.setdefault(value, []).append(f"timings.{name}")
    found.setdefault(plan.timings.soak + plan.timings.soak_grace, []).append("timings.soak + timings.soak_grace")
    return {value: " or ".join(names) for value, names in found.items()}


def _retry(policy: RetryPolicy | None) -> str | None:
    if policy is None:
        return None
    attempts = f"{policy.maximum_attempts} attempts" if policy.maximum_attempts else "without end"
    longest = f" up to {_text(policy.maximum_interval)}" if policy.maximum_interval else ""
    never = f" but not {', '.join(policy.non_retryable_error_types)}" if policy.non_retryable_error_types else ""
    return f"after {_text(policy.initial_interval)} × {policy.backoff_coefficient:g}{longest} {attempts}{never}"


# -- forms ---------------------------------------------------------------------------------------------------------


def _ids() -> Json:
    """Ids by which others find a workflow, and the key under which a run's certificate lies in custody."""
    return {
        "rotation": rotation_id("<plan>"),
        "lease": lease_id("<physical trunk, or SHA-256 of A>"),
        "key of a run, by example": run_key("<plan>", rotation_id("<plan>"), "<first run id>"),
    }


def _text(duration: timedelta | None) -> str | None:
    return None if duration is None else duration_text(duration)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 300 else f"{text[:297]}…"


def not_asked_for(contract: Json) -> Iterable[str]:
    """Activities that no committed history asks for: their options are not frozen."""
    return [name for name, entry in contract["activities"].items() if "asked for with" not in entry]


def main() -> int:
    """Writes the file and says what changed; returns the exit code."""
    contract = derived()
    changed = list(differences(committed(), contract)) if FILE.exists() else []
    FILE.write_text(as_text(contract), encoding="utf-8")
    print("\n".join(changed) or f"{FILE.name}: as it was")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the SDK's native runtime sometimes aborts at interpreter exit
