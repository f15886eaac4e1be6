"""Data sets that are downloaded into one folder where that is missing or not whole."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientconv.datasets.base import ImageData, Part
from efficientconv.errors import UserError


class DownloadedData(ImageData[Part]):
    """Abstract base of the sets that can be downloaded: checks the files, fetches them, or says how to.

    A leaf names this base first and then how its images are held: ``InMemoryData`` or ``StreamedData``.

    Args:
        root: folder that holds ``folder``, or gets it.
        download: fetch the set where it is not there or not whole.
        common: the arguments of the other base.

    Raises:
        UserError: from ``prepare_data`` and ``setup``: the set is not there and cannot be fetched, or is not whole.
    """

    folder: str  # of the set, in root
    needed: Sequence[str]  # files and folders in ``folder``
    needed_for_test: Sequence[str]  # those of them that the test images are read from
    by_hand: str  # how to fetch them, with {root} and {folder} for the paths

    def __init__(self, root: str = "data", download: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser().absolute()
        self.download = download

    @property
    def base(self) -> Path:
        """The folder of the set itself."""
        return self.root / self.folder

    @abstractmethod
    def _fetch(self) -> None:
        """Download and unpack the set."""

    def _is_whole(self, name: str) -> bool:
        """Say whether one of ``needed`` is there; a leaf that knows what should be in it looks into it."""
        return (self.base / name).exists()

    def _faulty(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if not self._is_whole(name)]

    def prepare_data(self) -> None:
        """Download the set unless it is there and whole, or what was asked of it is loaded already."""
        if self._test is None:
            self._prepare(self.needed)

    def prepare_test(self) -> None:
        """Download the set unless the part with the test images is there and whole."""
        self._prepare(self.needed_for_test)

    def _prepare(self, names: Sequence[str]) -> None:
        if not self._faulty(names):
            return
        if not self.download:
            raise self.unusable("data.download=false forbids fetching it", names)
        try:
            self._fetch()
        except (OSError, RuntimeError, ValueError) as error:
            raise self.unusable(f"The download failed: {error}", names) from error

    def require_whole(self, names: Sequence[str]) -> None:
        """Refuse to go on without some of the set's files and folders.

        Raises:
            UserError: one of them is missing or damaged.
        """
        if self._faulty(names):
            raise self.unusable("It was not fetched", names)

    def unusable(self, reason: str, names: Sequence[str] = ()) -> UserError:
        """Return an error that says which of the files and folders are missing or damaged, why, and how to fetch it."""
        faulty = self._faulty(names)
        missing = [name for name in faulty if not (self.base / name).exists()]
        damaged = [name for name in faulty if name not in missing]
        lists = {"missing": missing, "damaged": damaged}
        named = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
        looked_in = f"{self.base} ({named})" if named else str(self.base)
        root, folder = (shlex.quote(str(path)) for path in (self.root, self.base))
        return UserError(
            f"data={self.title}: looked in {looked_in}. {reason}. "
            f"To fetch it by hand: {self.by_hand.format(root=root, folder=folder)}   (data=digits needs no download)"
        )
