from __future__ import annotations

import logging
import pickle

import pytest

from efficientconv.errors import UserError
from efficientconv.loaders.bad_images import BadImageError, BadImages


def test_none_is_allowed_unless_told() -> None:
    message = r"^a.jpg: not an image, or a damaged one \(cut short\): data.max_bad_images=0 leaves out none$"
    with pytest.raises(UserError, match=message):
        BadImages().add(BadImageError("a.jpg", "cut short"))


def test_each_counts_once_up_to_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    bad = BadImages(limit=2)
    with caplog.at_level(logging.WARNING):
        for path in ("a.jpg", "b.jpg", "a.jpg"):
            bad.add(BadImageError(path, "cut short"))
    assert len(bad) == len(caplog.records) == 2
    assert "a.jpg" in bad
    assert caplog.messages[1].endswith("(cut short); left out (2 of at most 2)")
    with pytest.raises(UserError, match=r"^c.jpg: .*: data.max_bad_images=2 leaves out 2, and this is one more$"):
        bad.add(BadImageError("c.jpg", "cut short"))
    assert "c.jpg" not in bad


def test_an_error_comes_whole_out_of_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(BadImageError("a.jpg", "cut short")))
    assert (error.path, error.reason, str(error)) == (
        "a.jpg",
        "cut short",
        "a.jpg: not an image, or a damaged one (cut short)",
    )
