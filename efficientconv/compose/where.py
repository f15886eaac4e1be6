"""The rule that selects which convolutions of a model to replace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from efficientconv.errors import nearest_first

GROUP_KINDS = ("dense", "depthwise", "grouped")


@dataclass(frozen=True)
class Where:
    """A rule that selects convolutions; lists and single values become tuples.

    Attributes:
        kernel_sizes: sides of square kernels, in pixels; None for every kernel but 1×1.
        groups: any of ``dense`` (one group), ``depthwise`` (a group for each input channel) and ``grouped`` (between).
        stem: whether to select a convolution that sees the image through nothing but norms and element-wise operations.
        min_channels: smallest number of input and of output channels.
        include: patterns of dotted names (``fnmatch``: ``layer1.*``), of which one at least must match.
        exclude: patterns of dotted names, of which none may match.

    Raises:
        ValueError: a value that selects nothing anywhere, such as an unknown kind in ``groups``.
    """

    kernel_sizes: tuple[int, ...] | None = None
    groups: tuple[str, ...] = ("dense",)
    stem: bool = False
    min_channels: int = 1
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("kernel_sizes", "groups", "include", "exclude"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        _check_kernel_sizes(self.kernel_sizes)
        _check_groups(self.groups)
        _check_patterns("include", self.include)
        _check_patterns("exclude", self.exclude)
        if not self.include:
            raise ValueError("include=(): at least one pattern is needed; '*' matches every name")
        if not isinstance(self.stem, bool):
            raise ValueError(f"stem={self.stem!r}: must be true or false")
        if isinstance(self.min_channels, bool) or not isinstance(self.min_channels, int) or self.min_channels < 1:
            raise ValueError(f"min_channels={self.min_channels!r}: must be a whole number of at least 1")

    def selects(self, conv: nn.Conv2d, names: Iterable[str], is_stem: bool) -> bool:
        """Tell whether the rule selects ``conv``, which has these dotted ``names`` in the model."""
        if is_stem and not self.stem:
            return False
        return self._takes_kernel(conv) and group_kind(conv) in self.groups and self.selects_place(conv, names)

    def selects_place(self, unit: Any, names: Iterable[str]) -> bool:
        """Tell whether the rule selects a unit by its names and width, whatever its kernel and groups are."""
        names = tuple(names)
        wide_enough = min(unit.in_channels, unit.out_channels) >= self.min_channels
        return wide_enough and _matches(names, self.include) and not _matches(names, self.exclude)

    def _takes_kernel(self, conv: nn.Conv2d) -> bool:
        if self.kernel_sizes is None:
            return conv.kernel_size != (1, 1)
        height, width = conv.kernel_size
        return height == width and height in self.kernel_sizes


def group_kind(conv: nn.Conv2d) -> str:
    """Return the one of ``GROUP_KINDS`` that ``conv`` is; one group is dense, whatever the number of channels."""
    if conv.groups == 1:
        return "dense"
    return "depthwise" if conv.groups == conv.in_channels else "grouped"


def _as_tuple(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)


def _check_kernel_sizes(sizes: tuple[Any, ...] | None) -> None:
    if sizes is None:
        return
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"kernel_sizes={sizes}: whole numbers of at least 1 are needed, or null for all but 1")


def _check_groups(groups: tuple[Any, ...] | None) -> None:
    for kind in groups or ("",):
        if kind not in GROUP_KINDS:
            raise ValueError(f"groups={groups}: {kind!r} is none of {nearest_first(str(kind), GROUP_KINDS)}")


def _check_patterns(name: str, patterns: tuple[Any, ...] | None) -> None:
    if patterns is None or any(not isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"{name}={patterns}: patterns of dotted names are needed, such as 'layer1.*'")


def _matches(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
