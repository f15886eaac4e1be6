"""What each job's process leaves for the sweep's own: that the job runs, and how it has ended.

A job may run in any process, on any machine that sees the sweep's directory. A folder beside the jobs' directories
belongs to one start of the sweep; in it each job has a file while it runs, and one when it has ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from efficientconv.console import in_words

PREFIX = ".ended-"


class Outcomes:
    """The folder of one start of a sweep.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, labels: Mapping[str, str], left: int) -> None:
        """Make the folder, or go on with a further batch of jobs.

        Args:
            labels: of the batch's jobs by their names, those that are done already among them.
            left: how many are not.
        """
        if not self.folder.exists():
            self._remove_orphans()
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = self._read("begun") or {"labels": {}, "left": 0, "at": time.time()}
        jobs = {"labels": begun["labels"] | dict(labels), "left": begun["left"] + left}
        self._write("begun", begun | _this_process() | jobs)

    def _remove_orphans(self) -> None:
        """Remove the folders of processes of this machine that were killed."""
        for folder in self.folder.parent.glob(f"{PREFIX}*"):
            owner = Outcomes(folder)._read("begun")
            if owner and owner["host"] == socket.gethostname() and not _lives(owner["pid"]):
                Outcomes(folder).close()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- in the process of a job ---------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Say that a job runs in this process."""
        with suppress(FileNotFoundError):  # see `end`
            self._write(f"{name}.begun", {"times": self.times_begun(name) + 1})
            self._write(f"{name}.running", _this_process())

    def end(self, name: str, error: str | None = None) -> None:
        """Say that a job has ended, and why where it has failed."""
        with suppress(FileNotFoundError):  # the sweep was killed, and another one has cleared its folder away
            self._write(f"{name}.ended", {"error": error})
        (self.folder / f"{name}.running").unlink(missing_ok=True)

    def label(self, name: str) -> str:
        """Return what tells a job from the others."""
        return self.labels().get(name, name)

    def progress(self) -> str:
        """Say how far the sweep is: how many of its jobs have ended, have failed, and the time left."""
        begun = self._read("begun")
        if begun is None:
            return ""
        ended, failed = len(list(self.folder.glob("*.ended"))), len(self.errors())
        jobs = len(begun["labels"])
        words = [f"{jobs - begun['left'] + ended} of {jobs} jobs"]
        words += [f"{failed} failed"] if failed else []
        if 0 < ended < begun["left"]:
            seconds = (time.time() - begun["at"]) / ended * (begun["left"] - ended)
            words.append(f"about {in_words(seconds)} left")
        return ", ".join(words)

    @property
    def is_here(self) -> bool:
        """Tell whether the sweep's own process is this one, which runs its jobs itself."""
        return _this_process().items() <= (self._read("begun") or {}).items()

    @property
    def stopped(self) -> bool:
        """Tell whether the sweep was told to stop, so that no further job begins."""
        return (self.folder / "stop").exists()

    # -- in the sweep's own process ------------------------------------------------------------------------------

    def labels(self) -> dict[str, str]:
        """Return what tells each job from the others, by its name."""
        begun = self._read("begun")
        return begun["labels"] if begun else {}

    def errors(self) -> dict[str, str]:
        """Return why each job has failed that has, by name."""
        found = {file.name.removesuffix(".ended"): self._read(file.name) or {} for file in self.folder.glob("*.ended")}
        return {name: ended["error"] for name, ended in found.items() if ended.get("error") is not None}

    def has_failed(self, name: str) -> bool:
        """Tell whether a job has failed."""
        return (self._read(f"{name}.ended") or {}).get("error") is not None

    def times_begun(self, name: str) -> int:
        """Return how often a job has begun."""
        return (self._read(f"{name}.begun") or {"times": 0})["times"]

    def forget(self, name: str) -> None:
        """Forget how a job has ended, which goes on."""
        for kind in ("running", "ended"):
            (self.folder / f"{name}.{kind}").unlink(missing_ok=True)

    def stop(self) -> None:
        """Let no further job begin, and ask those that run on this machine to stop."""
        (self.folder / "stop").touch()
        for process in self.processes():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGTERM)

    def processes(self) -> list[int]:
        """Return the processes of this machine, this one aside, in which jobs run."""
        workers = [self._read(file.name) or {} for file in self.folder.glob("*.running")]
        here = {each["pid"] for each in workers if each.get("host") == socket.gethostname()} - {os.getpid()}
        return [process for process in here if _lives(process)]

    # ------------------------------------------------------------------------------------------------------------

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """Write a file whole; `replaced_whole` would make the folder anew where another sweep has cleared it away."""
        temporary = self.folder / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(content))
        temporary.replace(self.folder / name)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return None


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
