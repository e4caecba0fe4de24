"""The taps: every request from the worker to an outside service passes one, and can be held, lost or never answered.

A tap stands between the worker and a service, so that neither knows of it. It names each request by service and
operation, notes what passed, and does to a request what a rule says. A request that is held outlives its client: when
that has given up, or is dead, it can still be delivered – as a network does with a request that is late.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from lab.wire_time import now

_KEPT = 50_000

T = TypeVar("T")


class Action(StrEnum):
    """What a rule does to the request that it matches."""

    HOLD_BEFORE = "hold-before"
    """Not sent on until it is released; dropped, the service never sees it."""
    HOLD_AFTER = "hold-after"
    """The service has answered; the answer is kept back until it is released, or dropped."""
    NEVER_ANSWER = "never-answer"
    """Not sent on and not answered: the client waits until it gives up."""
    LOSE_ANSWER = "lose-answer"
    """The service has answered, the client's connection is closed without the answer."""


class State(StrEnum):
    """Where a rule stands."""

    ARMED = "armed"
    REACHED = "reached"
    """Its request is here: held, never answered, or (answers that are lost) already over."""
    RELEASED = "released"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Operation:
    """What a request is, whatever the ids in it: `PUT /api/v2/…/{id}`, or `UPDATE _sips._tcp.…`.

    `effect` is true for what may change the service's world: such a request is a side effect once it succeeded.
    """

    name: str
    effect: bool


@dataclass(frozen=True)
class Passage:
    """A request that was answered. `number` counts the requests of its service and operation, from 1."""

    at: datetime
    service: str
    operation: str
    number: int
    success: bool
    side_effect: bool


@dataclass(eq=False)
class Rule:
    """What happens to the `occurrence`-th request of an operation, counted from the moment the rule was set."""

    id: str
    service: str
    operation: str
    occurrence: int
    action: Action
    state: State = State.ARMED
    delivered: bool | None = None
    """Whether the service took the request; None as long as it has not been asked."""
    answered: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    decided: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    seen: int = 0

    def move(self, state: State) -> None:
        """Goes on to `state` and wakes whoever waits for a change."""
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()


class Lost(Exception):
    """The client gets no answer: its connection is closed."""


class Taps:
    """What passed, and the rules. One object for all services of a lab."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.rules: dict[str, Rule] = {}
        self._requests: Counter[tuple[str, str]] = Counter()
        self._ids = itertools.count(1)

    def journal(self) -> list[Passage]:
        """The side effects so far: what may change something, and was answered with success."""
        return [one for one in self.passages if one.side_effect]

    def forget(self) -> None:
        """Empties the journal and lets go of every rule; what is still held is dropped."""
        self.passages.clear()
        self._requests.clear()
        for rule in self.rules.values():
            if not rule.decided.is_set():
                self.decide(rule, release=False)
        self.rules.clear()

    def add(self, service: str, operation: str, occurrence: int, action: Action) -> Rule:
        """A new rule, counting from now."""
        rule = Rule(f"rule-{next(self._ids)}", service, operation, occurrence, action)
        self.rules[rule.id] = rule
        return rule

    def decide(self, rule: Rule, *, release: bool) -> None:
        """Ends a hold: delivered or dropped. A rule that was not reached yet will not be any more."""
        rule.move(State.RELEASED if release else State.DROPPED)
        rule.decided.set()

    async def passed(self, service: str, operation: Operation, forward: Callable[[], Awaitable[tuple[bool, T]]]) -> T:
        """Lets one request through; `forward` asks the service and says whether it succeeded.

        Raises `Lost` when the client gets no answer, and what `forward` raises.
        """
        self._requests[service, operation.name] += 1
        number = self._requests[service, operation.name]
        rule = self._match(service, operation.name)
        if rule is not None and rule.action in (Action.HOLD_BEFORE, Action.NEVER_ANSWER):
            rule.move(State.REACHED)
            await rule.decided.wait()
            if rule.state is State.DROPPED or rule.action is Action.NEVER_ANSWER:
                raise Lost
        try:
            success, answer = await forward()
        finally:
            if rule is not None:
                rule.answered.set()
        self._note(service, operation, number, success)
        if rule is None:
            return answer
        rule.delivered = success
        if rule.action is Action.HOLD_AFTER:
            rule.move(State.REACHED)
            await rule.decided.wait()
        elif rule.action is Action.LOSE_ANSWER:
            rule.move(State.REACHED)
            raise Lost
        if rule.state is State.DROPPED:
            raise Lost
        return answer

    def _match(self, service: str, operation: str) -> Rule | None:
        """Every armed rule of the operation counts the request; the first whose turn it is takes it."""
        matched = None
        for rule in self.rules.values():
            if rule.state is State.ARMED and (rule.service, rule.operation) == (service, operation):
                rule.seen += 1
                if matched is None and rule.seen >= rule.occurrence:
                    matched = rule
        return matched

    def _note(self, service: str, operation: Operation, number: int, success: bool) -> None:
        if len(self.passages) < _KEPT:
            effect = operation.effect and success
            self.passages.append(Passage(now(), service, operation.name, number, success, effect))
