"""Small data sets whose files are checked, and downloaded where they are missing or damaged."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from efficientconv.data.in_memory_data import InMemoryData
from efficientconv.errors import UserError


class DownloadedData(InMemoryData):
    """Abstract base: looks whether the files are there and whole, fetches them, or says how to.

    Args:
        root: folder that holds ``folder``, or gets it.
        download: fetch the set where it is not there or not whole.
        common: the arguments of ``InMemoryData``.

    Raises:
        UserError: from ``prepare_data`` and ``setup``: files missing or damaged.
    """

    folder: str  # of the set's files
    command: str  # fetches the set by hand, with {root} for the root

    def __init__(self, root: str = "data", download: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.download = download

    @property
    def base(self) -> Path:
        """The folder of the set itself."""
        return self.root / self.folder

    @abstractmethod
    def _faulty_files(self) -> list[str]:
        """List the set's files, by their names in ``folder``, that are not there or not whole."""

    @abstractmethod
    def _fetch(self) -> None:
        """Download and unpack the set."""

    def prepare_data(self) -> None:
        """Download the set unless it is there and whole."""
        if not self._faulty_files():
            return
        if not self.download:
            raise self.unusable("data.download=false forbids fetching it")
        try:
            self._fetch()
        except (OSError, RuntimeError) as error:
            raise self.unusable(f"The download failed: {error}") from error

    def require_whole_set(self) -> None:
        """Refuse to go on without the set.

        Raises:
            UserError: a file of it is missing or damaged.
        """
        if self._faulty_files():
            raise self.unusable("It was not fetched")

    def unusable(self, reason: str) -> UserError:
        """Return an error that says which files are missing or damaged, why, and how to fetch them."""
        faulty = self._faulty_files()
        missing = [name for name in faulty if not (self.base / name).exists()]
        damaged = [name for name in faulty if name not in missing]
        lists = {"missing": missing, "damaged": damaged}
        found = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        return UserError(
            f"data={self.title}: looked in {self.base.absolute()} ({found}). {reason}. "
            f"To fetch it by hand: {self.command.format(root=self.root)}   (data=digits needs no download)"
        )
