from __future__ import annotations

import logging
import pickle

import pytest

from efficientconv.errors import UserError
from efficientconv.loaders.bad_images import DamagedImageError, DamagedImages


def test_none_is_allowed_unless_told() -> None:
    with pytest.raises(DamagedImageError, match=r"^a.jpg: not an image, or a damaged one \(cut short\)$"):
        DamagedImages().add(DamagedImageError("a.jpg", "cut short"))


def test_each_counts_once_up_to_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    damaged = DamagedImages(limit=2)
    with caplog.at_level(logging.WARNING):
        for path in ("a.jpg", "b.jpg", "a.jpg"):
            damaged.add(DamagedImageError(path, "cut short"))
    assert len(damaged) == len(caplog.records) == 2
    assert "a.jpg" in damaged
    assert caplog.messages[1].endswith("(cut short); left out (2 of at most 2)")
    with pytest.raises(UserError, match=r"^c.jpg: .*: one more damaged image than data.max_bad_images=2 leaves out$"):
        damaged.add(DamagedImageError("c.jpg", "cut short"))
    assert "c.jpg" not in damaged


def test_an_error_comes_whole_out_of_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(DamagedImageError("a.jpg", "cut short")))
    assert (error.path, error.reason, str(error)) == (
        "a.jpg",
        "cut short",
        "a.jpg: not an image, or a damaged one (cut short)",
    )
