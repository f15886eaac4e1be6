"""What a logger that cannot take back has been given already, so that a resumed run repeats nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


class LoggedOnce:
    """Lets each metric through once for each step, also over restarts.

    A run that was killed has logged steps that its last checkpoint does not know, and takes them again. The last step
    of each metric is noted before it is logged: a kill in between costs one row, and never makes two of it.

    Args:
        file: where the steps are noted, as JSON.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.steps: dict[str, int] = {}
        with suppress(OSError, ValueError):  # there is none yet, or a power cut has emptied it
            self.steps = dict(json.loads(file.read_text()))

    def new(self, metrics: Mapping[str, Value], step: int | None) -> dict[str, Value]:
        """Return the metrics that were not logged at this step or a later one, and note that they are now.

        Args:
            metrics: values by name.
            step: optimizer steps done; ``None`` is no step at all, and always new.
        """
        if step is None:
            return dict(metrics)
        found = {name: value for name, value in metrics.items() if step > self.steps.get(name, -1)}
        if found:
            self.steps |= dict.fromkeys(found, step)
            self._note()
        return found

    def _note(self) -> None:
        """Replace the file; a kill of the process, unlike a power cut, leaves what the system has not yet written."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".part")
        temporary.write_text(json.dumps(self.steps))
        os.replace(temporary, self.file)
