"""How sure a share of successes is: exact one-sided tests on the binomial distribution."""

from __future__ import annotations

import math

_NOTHING = 1e-30
"""A term that adds nothing to a probability that is looked at."""


def at_least(share: float, *, successes: int, attempts: int, confidence: float) -> bool:
    """True when the measurement shows a true share of at least `share`, with this one-sided confidence (0–1).

    So it is when that many successes or more would be rarer than 1 − confidence if the true share were just `share`
    (Clopper and Pearson's bound). Of attempts that all succeed, 99.5 % at 95 % confidence needs 598: hence the default
    minimum sample of 600.
    """
    failures = attempts - successes
    if failures >= (1.0 - share) * attempts:  # no more successes than expected, or none at all
        return False
    return math.fsum(_term(count, attempts, 1.0 - share) for count in range(failures + 1)) <= 1.0 - confidence


def clearly_below(share: float, *, successes: int, attempts: int, chance: float) -> bool:
    """True when so few successes come by chance more rarely than `chance` (0–1), if the true share is `share`."""
    failures = attempts - successes
    if failures <= (1.0 - share) * attempts:
        return False
    probability = 0.0
    for count in range(failures, attempts + 1):
        term = _term(count, attempts, 1.0 - share)
        probability += term
        if probability > chance or term < _NOTHING:
            break
    return probability <= chance


def _term(failures: int, attempts: int, share: float) -> float:
    """The probability of just so many failures when each attempt fails with probability `share`."""
    if share <= 0.0 or share >= 1.0:
        return 1.0 if failures == round(share) * attempts else 0.0
    ways = math.lgamma(attempts + 1) - math.lgamma(failures + 1) - math.lgamma(attempts - failures + 1)
    return math.exp(ways + failures * math.log(share) + (attempts - failures) * math.log1p(-share))
