"""Data sets that lie in one folder, where they are downloaded if their publisher still serves them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientconv.data.listing import Listing
from efficientconv.data.streamed_data import StreamedData
from efficientconv.errors import UserError


class FetchedData(StreamedData):
    """Abstract base: looks whether the set is there, fetches it, or says how to.

    Args:
        root: folder that holds ``folder``, or gets it.
        download: fetch the set where it is not there.
        common: the arguments of ``StreamedData``.

    Raises:
        UserError: from ``prepare_data`` and ``setup``: the set is not there and cannot be fetched, or is not whole.
    """

    folder: str
    needed: Sequence[str]  # files and folders in ``folder``
    source: str  # where to get it by hand

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

    def prepare_data(self) -> None:
        """Download the set unless it is there."""
        if not self._missing():
            return
        if not self.download:
            raise self.unusable("data.download=false forbids fetching it")
        try:
            self._fetch()
        except (OSError, RuntimeError, ValueError) as error:
            raise self.unusable(f"The download failed: {error}") from error

    def _missing(self) -> list[str]:
        return [name for name in self.needed if not (self.base / name).exists()]

    def require_whole_set(self) -> None:
        """Refuse to go on without the set.

        Raises:
            UserError: a file or folder of it is missing.
        """
        if self._missing():
            raise self.unusable("It was not fetched")

    def unusable(self, reason: str) -> UserError:
        """Return an error that says what is missing, why, and where to get it."""
        missing = self._missing()
        found = f" (missing: {', '.join(missing)})" if missing else ""
        return UserError(
            f"data={self.title}: looked in {self.base}{found}. {reason}. To put it there by hand: {self.source}   "
            "(data=digits needs no download)"
        )

    def checked(self, listing: Listing) -> Listing:
        """Return ``listing``.

        Raises:
            UserError: a file that it names is not there.
        """
        return listing.require_files(f"data={self.title}")
