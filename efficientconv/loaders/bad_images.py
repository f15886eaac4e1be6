"""Image files that cannot be decoded: each is named and counted, and left out where data.max_bad_images allows it."""

from __future__ import annotations

import logging

from efficientconv.errors import UserError

log = logging.getLogger(__name__)


class BadImageError(UserError):
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


class BadImages:
    """The image files that could not be decoded so far; each counts once, however often it is met.

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

    def add(self, error: BadImageError) -> None:
        """Count the file that ``error`` names, and warn of it.

        Raises:
            UserError: it is one more than the limit.
        """
        if error.path in self.paths:
            return
        if len(self.paths) >= self.limit:
            allowed = f"{self.limit}, and this is one more" if self.limit else "none"
            raise UserError(f"{error}: data.max_bad_images={self.limit} leaves out {allowed}") from error
        self.paths.add(error.path)
        log.warning("%s; left out (%d of at most %d)", error, len(self), self.limit)
