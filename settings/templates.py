"""Query templates of metric sources: a look at one endpoint and one window fills in what it asks for.

PromQL and Datadog write braces of their own, so a placeholder is exactly a name in braces, `{trunk}`, and nothing else
is touched. What follows Datadog's `by` is a list of tags, also when it is a single one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final

PLACEHOLDERS: Final = ("trunk", "endpoint", "since", "until", "window")

_IN_BRACES = re.compile(r"(\bby\s*)?\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"\s*(?:[A-Za-z_:][A-Za-z0-9_:]*\s*(?:\{[^{}()]*\})?|\{[^{}()]+\})\s*")
_MATCHED_NAME = re.compile(r'[=!]~\s*"[^"]*\{(?:trunk|endpoint)\}')


def filled(template: str, values: Mapping[str, str]) -> str:
    """The query. `values` holds every placeholder as the query's language writes it."""

    def value(found: re.Match[str]) -> str:
        return found.group() if found[1] else values[found[2]]

    return _IN_BRACES.sub(value, template)


def is_selector(template: str) -> bool:
    """True for a PromQL selector, whose raw samples can be read; false for any other expression."""
    return _SELECTOR.fullmatch(_STRING.sub('""', template)) is not None


def promql(template: str) -> str:
    """The template of a counter as it is. Raises `ValueError` that says what is wrong with it."""
    _known_placeholders(template)
    if "'" in template or "`" in template:
        raise ValueError('strings stand in double quotes ("…"): names are escaped for those')
    bare = _STRING.sub('""', template)
    if "{trunk}" in bare or "{endpoint}" in bare:
        raise ValueError('{trunk} and {endpoint} stand inside double quotes, as in trunk="{trunk}"')
    if _MATCHED_NAME.search(template):
        raise ValueError("{trunk} and {endpoint} are compared by =, not by =~: a dot in a name would match anything")
    if re.search(r"\bvector\s*\(", bare):
        raise ValueError("vector() makes a figure out of no data; no data is not 0")
    if not is_selector(template) and "{window}" not in bare:
        raise ValueError("an expression states its window, as in increase(…[{window}]); a plain selector needs none")
    return template


def promql_selector(template: str) -> str:
    """The same for what has to be a selector."""
    promql(template)
    if not is_selector(template):
        raise ValueError('this has to be a plain selector, as in name{trunk="{trunk}"}: its samples tell their times')
    return template


def datadog_count(template: str) -> str:
    """The template of a Datadog query that counts, as it is. Raises `ValueError` that says what is wrong with it."""
    datadog_query(template)
    if "sum:" not in template or ".as_count()" not in template:
        raise ValueError("counts are asked for by sum:….as_count(); without it Datadog answers averages and rates")
    return template


def datadog_query(template: str) -> str:
    """The same for any query: nothing in it may make a figure out of no data, or choose other intervals."""
    _known_placeholders(template)
    for word, why in (
        ("default_zero(", "makes a figure out of no data; no data is not 0"),
        (".fill(", "makes a figure out of no data; no data is not 0"),
        (".as_rate(", "answers rates, not counts"),
        (".rollup(", "chooses other intervals; set interval"),
    ):
        if word in template:
            raise ValueError(f"{word.rstrip('(')}() {why}")
    return template


def _known_placeholders(template: str) -> None:
    valid = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for listed, name in _IN_BRACES.findall(template):
        if not listed and name not in PLACEHOLDERS:
            near = difflib.get_close_matches(name, PLACEHOLDERS, n=1, cutoff=0.5)
            hint = f"did you mean {{{near[0]}}}? " if near else ""
            raise ValueError(f"unknown placeholder {{{name}}}: {hint}Valid are {valid}")
    if not template.strip():
        raise ValueError("the query is empty")
