"""The difference between two configurations: paired over the seeds that both have, tested, and corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_SAME = 1e-9
"""Percentage points by which rounding alone makes differences differ: a test would take it for their spread."""


@dataclass(frozen=True)
class Comparison:
    """How much one configuration is above another, in the unit of its values.

    Attributes:
        difference: mean over the common seeds.
        seeds: which they are.
        low: lower end of the 95% confidence interval (Student's t); None where the seeds do not tell a spread.
        high: its upper end.
        p: of the paired t-test, uncorrected; None where there is no spread.
    """

    difference: float
    seeds: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    p: float | None = None


def compare(values: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison | None:
    """Compare two configurations by seed.

    Args:
        values: one for each seed.
        baseline: likewise.

    Returns:
        None without a common seed; a bare difference with one seed, or where it is the same for every seed.
    """
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    if not seeds:
        return None
    ours, theirs = (np.array([of[seed] for seed in seeds]) for of in (values, baseline))
    differences = ours - theirs
    mean = float(differences.mean())
    if np.ptp(differences) < _SAME:
        return Comparison(mean, seeds)
    test = stats.ttest_rel(ours, theirs)
    interval = test.confidence_interval(CONFIDENCE)
    return Comparison(mean, seeds, float(interval.low), float(interval.high), float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    The k-th smallest of m is multiplied by m - k + 1, is at least as large as the one before, and at most 1.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected.tolist()
