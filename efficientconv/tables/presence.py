"""Whether the data set of a sweep is there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from efficientconv.errors import UserError
from efficientconv.messages import one_line
from efficientconv.tables.configurations import composed_data
from efficientconv.tables.overrides import group_of


def absence(words: Sequence[str]) -> str | None:
    """Say why the data set that words for training choose cannot be had.

    Returns:
        A line; None where it can be had, and then it has been fetched. Also None where the words do not make one data
        set: training takes several one by one, and says what is wrong with one that cannot be.
    """
    with redirect_stdout(sys.stderr):
        return _absence(tuple(word for word in words if group_of(word) in ("model", "data", "recipe")))


@cache
def _absence(words: tuple[str, ...]) -> str | None:
    try:
        data = instantiate(composed_data(words), _convert_="all")
    except (HydraException, OmegaConfBaseException):
        return None
    try:
        data.prepare_data()
    except UserError as error:
        return one_line(error)
    return None
