"""The finished runs below some directories, as their files tell them, and what was left out and why."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from efficientconv.errors import UserError, first_line
from efficientconv.runs.directory import NEEDED
from efficientconv.runs.dotted import flat
from efficientconv.runs.names import split_override
from efficientconv.runs.same_result import DEVICE_COUNTS, FOLDER, RECORDS, gives_same_result, loader_kind
from efficientconv.tables.measure.differences import OF_EACH_RUN

GROUPS = ("model", "conv", "data", "recipe", "callbacks")
"""Groups whose options are columns by their names."""

KERNELS = ("trainer.precision", "compile", "channels_last", "cuda_graphs")
"""Settings that change the speed of a run, and its result by rounding alone."""

_UNFINISHED = ("running", "interrupted", "failed")


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        directory: where it is.
        config: its configuration, with ``choices``.
        summary: the content of its summary.json.
    """

    directory: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @cached_property
    def options(self) -> dict[str, str]:
        """Return everything that decides what was trained, the seed aside, as on the command line: key and value.

        ``conv`` is the name of the chosen file, ``conv.layer.p`` a value in it.
        """
        found = {group: str(self.config["choices"].get(group)) for group in GROUPS}
        for key, value in flat({key: node for key, node in self.config.items() if key not in RECORDS}).items():
            if self._decides(key):
                found[key] = self._text(key, value)
        devices = self.summary.get("devices", 1)  # each takes a batch of its own, and the configuration may say auto
        return found | {"trainer.devices": str(devices)}

    def _decides(self, key: str) -> bool:
        if key == "seed" or key in OF_EACH_RUN:
            return False
        return key in DEVICE_COUNTS or not gives_same_result(key, self.config["data"])

    def _text(self, key: str, value: Any) -> str:
        """Write a value as on the command line; of loaders what they make alike, where that is plain."""
        data = self.config["data"]
        if key == "data.loader" and (value, data.get("_target_")) != ("auto", FOLDER):
            return loader_kind(data, value)
        return value if isinstance(value, str) else json.dumps(value)

    @cached_property
    def kernels(self) -> dict[str, str]:
        """Return what its speed depends on besides what is trained: the device, precision, compilation, layout."""
        values = flat(self.config)
        found = {"device": str(self.summary.get("device"))}
        return found | {key: json.dumps(values[key]).strip('"') for key in KERNELS if key in values}

    @cached_property
    def named(self) -> frozenset[str]:
        """Return the keys that its command line set."""
        return frozenset(split_override(word)[0] for word in self.summary.get("overrides") or ())

    @property
    def seed(self) -> int:
        """Return the seed."""
        return int(self.config["seed"])


@dataclass
class Found:
    """What is below some directories.

    Attributes:
        runs: those that are finished, in the order of their paths.
        unfinished: how many are ``running``, ``interrupted`` or ``failed``.
        unreadable: directories that hold a run's files but no readable run, each with the reason.
    """

    runs: list[Run] = field(default_factory=list)
    unfinished: Counter[str] = field(default_factory=Counter)
    unreadable: dict[Path, str] = field(default_factory=dict)

    def left_out(self) -> list[str]:
        """Say in a line each what is not in the report."""
        found = [f"{count} {status}" for status, count in sorted(self.unfinished.items())]
        lines = [f"not finished, and left out: {', '.join(found)}"] if found else []
        return lines + [f"left out: {directory}: {reason}" for directory, reason in self.unreadable.items()]


def find_runs(places: Sequence[str | Path]) -> Found:
    """Read every finished run below some directories.

    Raises:
        UserError: a directory is not there, or there is no finished run in any.
    """
    found = Found()
    for directory in dict.fromkeys(directory for place in places for directory in _directories(Path(place))):
        try:
            run = _read(directory)
        except ValueError as error:
            found.unreadable[directory] = str(error)
            continue
        if run.summary["status"] == "done":
            found.runs.append(run)
        else:
            found.unfinished[run.summary["status"]] += 1
    if not found.runs:
        reasons = "; ".join(found.left_out()) or "nothing that python train.py wrote"
        raise UserError(f"{', '.join(map(str, places))}: no finished run below ({reasons})")
    return found


def _directories(place: Path) -> Iterator[Path]:
    """Walk to every directory with a run's files; nothing further down is looked into."""
    if not place.is_dir():
        raise UserError(f"{place}: there is no such directory (looked in {place.resolve()})")
    for path, directories, files in os.walk(place.resolve()):
        directories.sort()
        if "config.yaml" in files or "summary.json" in files:
            directories.clear()
            yield _as_given(Path(path))


def _as_given(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _read(directory: Path) -> Run:
    """Read a run's two files.

    Raises:
        ValueError: one is missing, damaged, or not of a run; the message is the reason.
    """
    config = _read_file(directory / "config.yaml", lambda text: yaml.load(text, yaml.CSafeLoader))
    summary = _read_file(directory / "summary.json", json.loads)
    lacking = [key for key in (*NEEDED, "choices") if not isinstance(config.get(key), dict)]
    if lacking or not isinstance(config.get("seed"), int):
        raise ValueError(f"config.yaml is not that of a run: it has no {', '.join(lacking) or 'seed'}")
    if summary.get("status") not in ("done", *_UNFINISHED):
        raise ValueError(f"summary.json is not that of a run: its status is {summary.get('status')!r}")
    return Run(directory, config, summary)


def _read_file(file: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(file.read_text())
    except FileNotFoundError:
        raise ValueError(f"it has no {file.name}") from None
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {first_line(error)}") from error
    except (ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is empty or damaged")
    return content
