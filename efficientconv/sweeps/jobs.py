"""Which directory each job of a sweep has, and which jobs are done, without composing again what is known.

Composing a configuration takes a tenth of a second, and a sweep of hundreds of jobs is started often. So the sweep's
directory keeps, in ``jobs.json``, each job's overrides and the name of its directory, with a mark of the files that it
was composed of. While these are the same files, the same overrides are the same job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import efficientconv
from efficientconv.errors import UserError, nearest_first
from efficientconv.processes import global_rank
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.finished import OF_SWEEPS, standing, wanted
from efficientconv.runs.names import split_override

FILE = "jobs.json"


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        overrides: its words of the command line.
        run: its directory.
        difference: what its directory holds otherwise than the job asks for, in words.
    """

    overrides: tuple[str, ...]
    run: RunDirectory
    difference: str = ""

    @property
    def name(self) -> str:
        """Return the name of its directory."""
        return self.run.path.name

    @property
    def summary(self) -> dict[str, Any]:
        """Return the run's summary; empty where there is none, or a damaged one."""
        try:
            return self.run.read_summary()
        except UserError:
            return {}

    @property
    def status(self) -> str | None:
        """Return ``done``, ``failed``, ``running`` or ``interrupted``; None where the job has not begun."""
        return self.summary.get("status")

    @property
    def top1(self) -> float | None:
        """Return the best top-1 accuracy so far, a fraction of 1; None where nothing was evaluated."""
        return (self.summary.get("best") or {}).get("top1")


def labels(jobs: Sequence[Job], shared: Collection[str] = ()) -> dict[str, str]:
    """Return what tells each job from the others, by its name: the overrides that are its own.

    Args:
        jobs: the jobs.
        shared: overrides of them all; if left out, those that they have in common.
    """
    told = [set(job.overrides) for job in jobs if job.overrides]  # the directories of an old sweep tell none
    common = set(shared) or (set.intersection(*told) if told else set())
    return {job.name: " ".join(word for word in job.overrides if word not in common) or job.name for job in jobs}


def find_sweep(name: str, outputs: Path) -> Path:
    """Return the directory of a sweep that is named, or given as a directory.

    Raises:
        UserError: there is none; says which there are.
    """
    sweeps = outputs / "sweeps"
    for path in (sweeps / name, Path(name)):
        if name and path.is_dir():
            return path
    known = sorted(path.name for path in sweeps.glob("*/"))
    have = f"; nearest first: {nearest_first(name, known, most=5)}" if known else ""
    raise UserError(f"sweep={name}: there is no such sweep in {sweeps}{have}")


class SweepDirectory:
    """The directory of a sweep, and the jobs that its ``jobs.json`` knows.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            known = json.loads((self.path / FILE).read_text())
        except (OSError, ValueError):  # none yet, or damaged: it is written anew
            return {}
        return known if isinstance(known, dict) else {}

    def known(self) -> list[Job]:
        """Return the jobs of all command lines so far."""
        return [self._job(**each) for each in self._known.values()]

    def _job(self, overrides: Sequence[str], name: str, difference: str = "", mark: str = "") -> Job:
        return Job(tuple(overrides), RunDirectory(self.path / name), difference)

    def jobs(
        self, batch: Sequence[Sequence[str]], compose: Callable[[list[str]], DictConfig], mark: str
    ) -> tuple[list[Job], list[Job]]:
        """Find the jobs of a command line, and write down those that are new.

        Args:
            batch: the overrides of each job.
            compose: makes the whole configuration of some overrides.
            mark: of the files that it is composed of, see `mark_of`.

        Returns:
            All jobs, in the order of ``batch``, and those of them that are left.

        Raises:
            HydraException: a job does not compose.
            MissingMandatoryValue: a value that has to be given was not.
        """
        known = {_asked(each["overrides"]): self._job(**each) for each in self._known.values() if each["mark"] == mark}
        found, left, new = [], [], {}
        for overrides in batch:
            job = known.get(_asked(overrides))
            done = job is not None and job.status == "done"
            if job is None or (job.difference and not done):
                job, done = self._composed(overrides, compose)
                new[job.name] = self._entry(job, mark)
            found.append(job)
            if not done:
                left.append(job)
        self._add(new)
        return found, left

    def _composed(self, overrides: Sequence[str], compose: Callable[[list[str]], DictConfig]) -> tuple[Job, bool]:
        """Compose a job; return it, and whether it is done."""
        name, asked = _name_and_wanted(compose(list(overrides)))
        job = self._job(overrides, name)
        try:
            done, difference = standing(job.run, asked)
        except UserError as error:  # of another run in its directory: the job itself will say so; the others go on
            done, difference = False, str(error)
        return replace(job, difference=difference), done

    @staticmethod
    def _entry(job: Job, mark: str) -> dict[str, Any]:
        return {"overrides": job.overrides, "name": job.name, "difference": job.difference, "mark": mark}

    def _add(self, new: dict[str, dict[str, Any]]) -> None:
        """Add jobs to the file, beside those that another process may have added since it was read."""
        if not new or global_rank():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / f".{FILE}.lock"):
            self._known = self._read() | new
            RunDirectory(self.path).write_json(FILE, self._known)


def _asked(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that say what a job is, and not where it is run."""
    return tuple(word for word in overrides if split_override(word)[0].partition(".")[0] not in OF_SWEEPS)


def _name_and_wanted(config: DictConfig) -> tuple[str, dict[str, Any]]:
    """Return the name of a composed job's directory, and what the job asks for."""
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(config)
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        return str(config.hydra.sweep.subdir), wanted(own, config.hydra.runtime.choices)
    finally:
        holder.cfg = before


def mark_of(loader: ConfigLoader) -> str:
    """Return a text that changes with the content of the configuration files, and with this project's version."""
    mark = hashlib.sha1(efficientconv.__version__.encode())
    for source in loader.get_search_path().get_path():
        if source.path is None or source.path.startswith(("pkg://", "structured://")):
            continue
        folder = Path(source.path.removeprefix("file://"))
        for file in sorted(folder.rglob("*.yaml")):
            mark.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return mark.hexdigest()[:16]
