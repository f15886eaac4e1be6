"""The run directory: everything downstream (eval, resume, report, export) reads it, and nothing else.

::

    config.yaml        the resolved configuration, and which option of each group it came from
    summary.json       status, accuracies, counts, times, versions; written atomically
    metrics.csv        a row per epoch; append-only, cut back to the checkpoint on resume
    replaced.json      which convolutions were replaced, which were kept, and why
    checkpoints/       last.ckpt, best.ckpt
    train.log
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from efficientconv.errors import UserError

NEEDED = ("model", "conv", "data", "recipe", "trainer", "callbacks", "logger")  # groups of every configuration


class RunDirectory:
    """The files of one run, by name.

    Args:
        path: the directory; it need not exist.
        writable: false in the further ranks of a run, where whatever would write does nothing.
    """

    def __init__(self, path: str | os.PathLike[str], writable: bool = True) -> None:
        self.path, self.writable = Path(path), writable

    @property
    def config_file(self) -> Path:
        """Return where the configuration is."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """Return where the rows are."""
        return self.path / "metrics.csv"

    @property
    def log_file(self) -> Path:
        """Return where the log is."""
        return self.path / "train.log"

    def checkpoint(self, name: str) -> Path:
        """Return where the checkpoint of that name is: ``last`` or ``best``."""
        return self.path / "checkpoints" / f"{name}.ckpt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process; the system lets go of it even where the process is killed.

        Raises:
            UserError: another process is training here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise UserError(f"{self.path}: another process is training in this run directory") from None

    # -- configuration -------------------------------------------------------------------------------------------

    def require(self) -> None:
        """Refuse a path that is no run directory.

        Raises:
            UserError: it has no config.yaml.
        """
        if not self.config_file.is_file():
            looked = self.path.resolve()
            raise UserError(f"{self.path} is not a run directory: it has no config.yaml (looked in {looked})")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration, resolved, as YAML."""
        self._write_atomically(self.config_file, OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def read_config(self) -> dict[str, Any]:
        """Read the configuration as plain dictionaries and lists.

        Raises:
            UserError: this is not a run directory, its configuration cannot be read, or it holds an interpolation:
                one is resolved when something is built of it, and may build anything itself.
        """
        self.require()
        try:
            config = OmegaConf.to_container(OmegaConf.load(self.config_file), resolve=False)
        except Exception as error:
            raise UserError(f"{self.config_file} cannot be read: {first_line(error)}") from error
        if not isinstance(config, dict) or any(not isinstance(config.get(key), dict) for key in NEEDED):
            raise UserError(f"{self.config_file} is not the configuration of a run: {', '.join(NEEDED)} are needed")
        if "${" in str(config):
            raise UserError(f"{self.config_file} holds an interpolation, ${{...}}: a run writes values alone")
        return {str(key): value for key, value in config.items()}

    # -- summary and other JSON ----------------------------------------------------------------------------------

    def read_summary(self) -> dict[str, Any]:
        """Read summary.json, or an empty dictionary where there is none yet.

        Raises:
            UserError: it is damaged.
        """
        file = self.path / "summary.json"
        try:
            return dict(json.loads(file.read_text())) if file.is_file() else {}
        except ValueError as error:
            raise UserError(f"{file} is damaged: {first_line(error)}") from error

    def update_summary(self, **values: Any) -> dict[str, Any]:
        """Merge ``values`` into summary.json and return the whole."""
        summary = self.read_summary() | values
        self.write_json("summary.json", summary)
        return summary

    def write_json(self, name: str, content: Any) -> None:
        """Write a file of that name whole or not at all."""
        self._write_atomically(self.path / name, json.dumps(content, indent=2) + "\n")

    def _write_atomically(self, file: Path, text: str) -> None:
        if not self.writable:
            return
        with replaced_whole(file) as temporary:
            temporary.write_text(text)

    # -- metrics -------------------------------------------------------------------------------------------------

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one row to metrics.csv; the first row sets the columns."""
        if not self.writable:
            return
        is_new = not self.metrics_file.exists()
        with self.metrics_file.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def read_metrics(self) -> list[dict[str, str]]:
        """Read the rows of metrics.csv, one per epoch; none where there is no file."""
        if not self.metrics_file.is_file():
            return []
        with self.metrics_file.open(newline="") as file:
            return list(csv.DictReader(file))

    def cut_metrics(self, epochs: int) -> None:
        """Keep the header and the rows of the first ``epochs`` epochs, dropping those a resumed run writes again."""
        if not self.writable:
            return
        if self.metrics_file.is_file():
            lines = self.metrics_file.read_text().splitlines(keepends=True)[: epochs + 1]
            self._write_atomically(self.metrics_file, "".join(lines) if epochs else "")
        if not epochs:
            self.metrics_file.unlink(missing_ok=True)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration's nested dictionaries to dotted keys; lists are values."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


@contextmanager
def replaced_whole(file: Path) -> Iterator[Path]:
    """Give a path beside ``file`` to write to, and put what was written there in its place: all of it, or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield temporary
        if temporary.exists():  # only the first of several ranks writes a checkpoint
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__
