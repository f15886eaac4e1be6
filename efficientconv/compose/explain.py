"""The errors for a rule that does not fit the model: why nothing was replaced, and what to change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from efficientconv.compose.build import Factory, build_successor
from efficientconv.compose.report import Kept, counted, numberless
from efficientconv.compose.units import Assignment, Job, Place, kind
from efficientconv.compose.where import GROUP_KINDS, Where
from efficientconv.errors import UserError

_RELAXED: dict[str, Any] = {
    "kernel_sizes": None,
    "groups": GROUP_KINDS,
    "stem": True,
    "min_channels": 1,
    "include": ("*",),
    "exclude": (),
}


def name_of(factory: Factory) -> str:
    """Return the layer's class and its settings: ``BSConvS(p=0.25)``."""
    if not isinstance(factory, partial):
        return getattr(factory, "__name__", type(factory).__name__)
    settings = ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value!r}"
        for key, value in factory.keywords.items()
    )
    return f"{name_of(factory.func)}({settings})" if settings else name_of(factory.func)


def in_words(where: Where) -> str:
    """Describe the convolutions that ``where`` selects: ``dense 3×3 or 5×5, stem included``."""
    sizes = " or ".join(f"{size}×{size}" for size in where.kernel_sizes or ())
    parts = [" or ".join(where.groups) + (f" {sizes}" if sizes else ", any kernel but 1×1")]
    parts.append("stem included" if where.stem else "without the stem")
    if where.min_channels > 1:
        parts.append(f"at least {where.min_channels} channels")
    if where.include != ("*",):
        parts.append(f"names like {' or '.join(where.include)}")
    if where.exclude:
        parts.append(f"names unlike {' and '.join(where.exclude)}")
    return ", ".join(parts)


def nothing_selected(model: nn.Module, places: Sequence[Place], where: Where, assign: Assignment) -> UserError:
    """Return the error that says what the model has, what the rule selects and which change would help.

    Args:
        model: the network.
        places: the units of ``model``.
        where: the rule, which selects none of ``places``.
        assign: returns what another rule would select.
    """
    name = type(model).__name__
    if not places:
        return UserError(f"{name} has no convolution that could be replaced; conv=standard leaves it as it is")
    return UserError(
        f"conv.where selects nothing in {name}: it asks for {in_words(where)}; the model has "
        f"{counted(Counter(map(kind, places)))}. {_advice(where, assign)}"
    )


def all_kept(jobs: Iterable[Job], kept: Sequence[Kept]) -> UserError:
    """Return the error for selected units none of which could be replaced, with up to three different reasons."""
    first: dict[str, Kept] = {}
    for unit in kept:
        first.setdefault(numberless(unit.reason), unit)
    reasons = [f"{unit.name} ({unit.before}): {unit.reason}" for unit in first.values()]
    more = f"; other reasons: {len(reasons) - 3}" if len(reasons) > 3 else ""
    layers = " or ".join(dict.fromkeys(name_of(job.factory) for job in jobs))
    return UserError(
        f"{layers} can replace none of the {len(kept)} convolutions that conv.where selects: "
        f"{'; '.join(reasons[:3])}{more}"
    )


def _advice(where: Where, assign: Assignment) -> str:
    changes = {key: value for key, value in _RELAXED.items() if getattr(where, key) != value}
    options = [_option(where, assign, {key: value}) for key, value in changes.items()]
    useful = list(filter(None, options)) or list(filter(None, [_option(where, assign, changes)]))
    advice = f"What would select some: {'; '.join(useful)}. " if useful else "No other conv.where would help. "
    return advice + _refusals(assign(replace(where, **changes)))


def _refusals(jobs: Iterable[Job]) -> str:
    """Count the units that the layer cannot represent, with the reason for the most frequent kind."""
    refused = [(kind(job.place), refusal) for job in jobs if (refusal := _refusal(job))]
    if not refused:
        return ""
    kinds = Counter(unit for unit, _ in refused)
    most_frequent = kinds.most_common(1)[0][0]
    reason = next(refusal for unit, refusal in refused if unit == most_frequent)
    return f"The layer refuses {counted(kinds)}; the first of these: {reason}"


def _option(where: Where, assign: Assignment, changes: dict[str, Any]) -> str:
    """Write the changes and the units that they would select; return an empty text where there are none."""
    possible = Counter(kind(job.place) for job in assign(replace(where, **changes)) if not _refusal(job))
    settings = " ".join(f"conv.where.{key}={_setting(value)}" for key, value in changes.items())
    return f"{settings} ({counted(possible)})" if possible else ""


def _refusal(job: Job) -> str:
    """Return why the layer cannot represent the unit; an empty text where it can."""
    try:
        build_successor(job.factory, job.place.unit, device="meta")
    except ValueError as error:
        return str(error)
    return job.place.obstacle


def _setting(value: Any) -> str:
    """Write ``value`` as the command line takes it."""
    if isinstance(value, tuple):
        return f"[{','.join(repr(text) if '*' in text else text for text in value)}]"
    return "null" if value is None else str(value).lower()
