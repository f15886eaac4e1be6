"""The run directory: everything downstream (eval, resume, report, export) reads it, and nothing else.

::

    config.yaml        the resolved configuration, and which option of each group it came from
    summary.json       status, accuracies, counts, times, versions; written atomically
    metrics.csv        a row per epoch; append-only, cut back to the checkpoint on resume
    replaced.json      which convolutions were replaced, which were kept, and why
    checkpoints/       last.ckpt, best.ckpt, and the teacher's where there is one
    train.log
    .lock              held by the process that trains here; .worker.json says which one, on which machine
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from efficientconv.atomic import remove_unfinished, replaced_whole
from efficientconv.errors import UserError, first_line
from efficientconv.runs.metrics import append_row, cut, whole_rows

log = logging.getLogger(__name__)

NEEDED = ("model", "conv", "data", "recipe", "trainer", "callbacks", "logger")  # groups of every configuration


class RunIsBusyError(UserError):
    """Another process is training in the run directory."""


class RunDirectory:
    """The files of one run, by name.

    Args:
        path: the directory; it need not exist.
        writable: false in the further ranks of a run, where whatever would write does nothing.
    """

    def __init__(self, path: str | os.PathLike[str], writable: bool = True) -> None:
        self.path, self.writable = Path(path), writable
        self._lock = FileLock(self.path / ".lock", timeout=0)

    @property
    def config_file(self) -> Path:
        """Return where the configuration is."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """Return where the rows are."""
        return self.path / "metrics.csv"

    @property
    def replaced_file(self) -> Path:
        """Return where the report of what was replaced is."""
        return self.path / "replaced.json"

    @property
    def log_file(self) -> Path:
        """Return where the log is."""
        return self.path / "train.log"

    @property
    def sweep(self) -> str | None:
        """Return the sweep's name where this is ``<outputs>/sweeps/<sweep>/<job>``; None for a single run."""
        folder = self.path.resolve().parent
        return folder.name if folder.parent.name == "sweeps" else None

    def checkpoint(self, name: str) -> Path:
        """Return where the checkpoint of that name is: ``last`` or ``best``."""
        return self.path / "checkpoints" / f"{name}.ckpt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process, on every machine that shares the file system.

        The system lets go of it even where the process is killed. Held already by this object, it is held on.

        Raises:
            RunIsBusyError: another process is training here; says which one.
            UserError: the directory cannot be written.
        """
        if not self.writable:  # the first rank holds it
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise RunIsBusyError(f"{self.path}: {self._worker()} is training in this run directory") from None
        except OSError as error:
            raise UserError(
                f"{self.path}: a run is trained in its own directory, and this one cannot be written "
                f"({error.strerror}); copy it to where you can write, or name another one with run= or outputs="
            ) from error
        try:
            if self._lock.lock_counter == 1:
                self._move_in()
            yield
        finally:
            if self._lock.lock_counter == 1:
                self._worker_file.unlink(missing_ok=True)
            self._lock.release()

    def is_busy(self) -> bool:
        """Tell whether another process holds the directory."""
        if not (self.path / ".lock").exists():
            return False
        try:
            self._lock.acquire()
        except Timeout:
            return True
        self._lock.release()
        return False

    @property
    def _worker_file(self) -> Path:
        return self.path / ".worker.json"

    def _move_in(self) -> None:
        """Say who works here, and remove what a killed process has left unfinished."""
        for folder in (self.path, self.path / "checkpoints"):
            remove_unfinished(folder)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        self.write_json(self._worker_file.name, {"host": socket.gethostname(), "pid": os.getpid(), "since": since})

    def _worker(self) -> str:
        """Say who holds the lock; in its first instant that is not written down yet."""
        try:
            worker = json.loads(self._worker_file.read_text())
            return f"process {worker['pid']} on {worker['host']} (since {worker['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    @contextmanager
    def stay_finished(self) -> Iterator[None]:
        """Leave a finished run as it was if going on with it fails before another checkpoint is saved.

        Whatever is wrong with a longer training, the shorter one is done and its figures stand.
        """
        if self.read_summary().get("status") != "done":
            yield
            return
        files = (self.config_file, self._summary_file)
        before, checkpoint = [file.read_text() for file in files], _identity(self.checkpoint("last"))
        try:
            yield
        except BaseException:
            if _identity(self.checkpoint("last")) == checkpoint:
                for file, text in zip(files, before, strict=True):
                    self._write_atomically(file, text)
            raise

    def remove_if_empty(self, outputs: str | os.PathLike[str]) -> None:
        """Remove the directory where nothing but a log has been written, and the folders that this leaves empty.

        Args:
            outputs: the folder that runs are in, the last one to be removed.
        """
        if not self.writable or not self.path.is_dir():
            return
        files = set(self.path.iterdir())
        if {file.name for file in files} - {self.log_file.name, ".lock"}:
            return
        above = [folder for folder in self.path.parents if folder.is_relative_to(Path(outputs).resolve())]
        with suppress(OSError):  # a folder that holds other runs, or that cannot be written to
            for file in files:
                file.unlink()
            for folder in (self.path, *above):
                folder.rmdir()

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
        file = self._summary_file
        try:
            return dict(json.loads(file.read_text())) if file.is_file() else {}
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{file} is damaged ({first_line(error)}). Remove it: python train.py resume=true run={self.path} "
                "then writes it again, from the last checkpoint"
            ) from error

    def set_damaged_summary_aside(self) -> None:
        """Rename a summary.json that cannot be read, so that training writes it again from the last checkpoint."""
        try:
            self.read_summary()
        except UserError:
            aside = self._summary_file.with_suffix(".damaged")
            self._summary_file.replace(aside)
            log.warning("%s was damaged and is now %s; the last checkpoint has its figures", self._summary_file, aside)

    @property
    def _summary_file(self) -> Path:
        return self.path / "summary.json"

    def update_summary(self, **values: Any) -> dict[str, Any]:
        """Merge ``values`` into summary.json and return the whole."""
        summary = self.read_summary() | values
        self.write_json(self._summary_file.name, summary)
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
        if self.writable:
            append_row(self.metrics_file, row)

    def read_metrics(self) -> list[dict[str, str]]:
        """Read the rows of metrics.csv, one per epoch, as far as the file is whole; none where there is no file."""
        return whole_rows(self.metrics_file)[0]

    def cut_metrics(self, epochs: int) -> None:
        """Keep the rows of the first ``epochs`` epochs, dropping those that a resumed run writes again.

        Where one of them is damaged, those before it are kept, and the whole file beside them as metrics.damaged.csv.
        """
        if self.writable:
            cut(self.metrics_file, epochs)


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
