"""What is wrong with a TOML file, in sentences: the field, its line, what was seen, the nearest valid key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


def describe_problems(error: ValidationError, model: type[BaseModel], text: str = "") -> list[str]:
    """Every problem as a sentence. "Too few entries" is left out where an entry is itself wrong: it only confuses."""
    problems = error.errors(include_url=False)
    return [
        describe_problem(problem, model, text)
        for problem in problems
        if problem["type"] != "too_short"
        or not any(p is not problem and p["loc"][: len(problem["loc"])] == problem["loc"] for p in problems)
    ]


def describe_problem(problem: Mapping[str, Any], model: type[BaseModel], text: str = "") -> str:
    """One validation problem as a sentence: field, line, what was seen, what was expected, nearest valid key."""
    location: tuple[int | str, ...] = tuple(problem["loc"])
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "plan"
    line = _line_of(text, location)
    place = f"{field} (line {line})" if line else field
    if problem["type"] == "extra_forbidden":
        valid = list(_keys_at(model, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(sorted(valid))}"
        return f"{place}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{place}: missing"
    seen = problem.get("input")
    shown = f", seen {seen!r}" if isinstance(seen, str | int | float | bool) else ""
    words = str(problem["msg"]).removeprefix("Value error, ").replace("datetime.timedelta(0)", "0s")
    return f"{place}: {words}{shown}"


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> Iterator[str]:
    """The keys of the table at `location`. In a union of profiles, its tag (`kind`) says which one is meant."""
    models = [model]
    for part in location:
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
        else:
            tagged = [m for m in models if part in _tags(m)]
            models = tagged or models
    for candidate in models:
        yield from candidate.model_fields


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return getattr(kind.annotation, "__args__", ()) if kind is not None else ()


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _line_of(text: str, location: Sequence[int | str]) -> int | None:
    """The line of the deepest part of `location` that stands in the TOML text, tables and array tables followed."""
    here: tuple[int | str, ...] = ()
    counts: dict[tuple[int | str, ...], int] = {}
    found, depth = None, 0
    for number, raw in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([A-Za-z0-9_.-]+)\s*\]", raw)
        key = re.match(r"\s*([A-Za-z0-9_-]+)\s*=", raw)
        if header:
            here = ()
            *parents, name = header.group(2).split(".")
            for parent in parents:
                here = (*here, parent)
                here += (counts[here],) if here in counts else ()
            here = (*here, name)
            if header.group(1) == "[[":
                counts[here] = counts.get(here, -1) + 1
                here = (*here, counts[here])
            place = here
        elif key:
            place = (*here, key.group(1))
        else:
            continue
        if len(place) > depth and place == tuple(location[: len(place)]):
            found, depth = number, len(place)
    return found
