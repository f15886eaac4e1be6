"""What the sets held in memory and those read from disk have in common."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from efficientconv.datasets import CIFAR, CUB200, MNIST, FineGrained, StanfordDogs
from efficientconv.errors import UserError

MAKE = {
    "cifar10": CIFAR,
    "mnist": MNIST,
    "cub200": CUB200,
    "stanford_dogs": StanfordDogs,
    "flowers102": lambda **options: FineGrained("flowers102", **options),
}


@pytest.mark.parametrize("name", MAKE)
def test_the_root_may_be_relative_and_is_told_in_full(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = MAKE[name](root="photos", download=False)
    message = rf"data={name}: looked in {tmp_path}/photos/\S+ \(missing: .*\). data.download=false forbids fetching it"
    with pytest.raises(UserError, match=message):
        data.prepare_data()


@pytest.mark.parametrize("error", [OSError, RuntimeError, ValueError])
@pytest.mark.parametrize("name", MAKE)
def test_a_download_that_fails(name: str, error: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MAKE[name](root=str(tmp_path))

    def fail() -> None:
        raise error("no such luck")

    monkeypatch.setattr(data, "_fetch", fail)
    with pytest.raises(UserError, match=r"The download failed: no such luck. To fetch it by hand: "):
        data.prepare_data()


@pytest.mark.parametrize("name", MAKE)
def test_setup_fetches_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"data={name}: looked in .*missing.* It was not fetched. To fetch it by hand"):
        MAKE[name](root=str(tmp_path)).setup()


@pytest.mark.parametrize("name", MAKE)
def test_a_root_with_a_space_is_one_word_of_a_shell(name: str, tmp_path: Path) -> None:
    root = tmp_path / "my data; $HOME's"
    with pytest.raises(UserError) as refused:
        MAKE[name](root=str(root), download=False).prepare_data()
    by_hand = re.search(r"To fetch it by hand: (.*)   \(data=digits needs no download\)", str(refused.value))
    assert by_hand
    assert "{" not in by_hand[1]
    paths = [word for word in shlex.split(by_hand[1].replace("; do", " ; do")) if "HOME" in word]
    assert paths
    assert all(Path(path).is_relative_to(root) for path in paths)


@pytest.mark.parametrize("name", MAKE)
def test_the_arguments_of_both_bases_are_taken(name: str, tmp_path: Path) -> None:
    data = MAKE[name](root=str(tmp_path), batch_size=7)
    assert (data.root, data.batch_size) == (tmp_path, 7)
    with pytest.raises(TypeError, match="rooot"):
        MAKE[name](rooot=str(tmp_path))
