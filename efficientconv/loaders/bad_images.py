"""Image files that cannot be decoded: named, counted, and left out where the user allows it."""

from __future__ import annotations

import logging

from efficientconv.errors import UserError

log = logging.getLogger(__name__)


class DamagedImageError(UserError):
    """A file that is not an image, or a damaged one.

    Args:
        path: of the file.
        reason: the decoder's words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: not an image, or a damaged one ({reason})")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)


class DamagedImages:
    """The damaged image files met so far; each counts once, however often it is met.

    Args:
        limit: how many are left out before the next one stops the run.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.paths: set[str] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def __contains__(self, path: str) -> bool:
        return path in self.paths

    def add(self, error: DamagedImageError) -> None:
        """Count a file and warn of it.

        Raises:
            UserError: it is one too many.
        """
        if error.path in self.paths:
            return
        if not self.limit:
            raise error
        if len(self.paths) == self.limit:
            raise UserError(
                f"{error}: one more damaged image than data.max_bad_images={self.limit} leaves out"
            ) from error
        self.paths.add(error.path)
        log.warning("%s; left out (%d of at most %d)", error, len(self), self.limit)
