"""Which classes the images of a user are of, by a run's network or an exported one."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientconv.deploy.fold import fold
from efficientconv.deploy.formats import require_installed
from efficientconv.deploy.metadata import Metadata
from efficientconv.deploy.preprocessing import Preprocessing
from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError
from efficientconv.loaders.bad_images import BadImageError, BadImages
from efficientconv.loaders.decode import read_rgb
from efficientconv.loaders.image_files import SUFFIXES, list_images


@dataclass(frozen=True)
class Classifier:
    """A network that is ready for photographs.

    Attributes:
        class_names: in the order of the probabilities.
        probabilities: maps one image, (3, H, W) uint8, to (classes,).
    """

    class_names: Sequence[str]
    probabilities: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, and their probabilities, the best first."""

    path: str
    classes: tuple[tuple[str, float], ...]


def open_classifier(model: str, weights: str | None = None, allow: Sequence[str] = ()) -> Classifier:
    """Open a run directory or an ONNX file that this program exported.

    Args:
        model: the directory or the file.
        weights: of a run: ``last``, ``best``, ``ema``, or None, see ``TrainedRun.network``.
        allow: of a run: packages whose targets its configuration may name.

    Raises:
        UserError: it cannot be used.
    """
    if model.lower().endswith(".onnx"):
        return _from_onnx(model)
    return _from_run(TrainedRun(model, allow=allow), weights)


def _from_run(trained: TrainedRun, weights: str | None) -> Classifier:
    taken = trained.image_format
    network = fold(trained.network(weights)[0], (taken.channels, taken.size, taken.size))
    whole = nn.Sequential(Preprocessing(taken), network, nn.Softmax(1)).eval()

    def probabilities(image: Tensor) -> Tensor:
        with torch.no_grad():
            return whole(image.unsqueeze(0))[0]

    return Classifier(trained.class_names, probabilities)


def _from_onnx(file: str) -> Classifier:
    require_installed("an ONNX file", "onnxruntime")
    from efficientconv.deploy.onnx_file import open_session, read_metadata, run_session

    if not Path(file).is_file():
        raise UserError(f"{file}: there is no such file")
    session = open_session(Path(file))
    metadata = Metadata.from_strings(read_metadata(session), file)
    before: nn.Module = Preprocessing(metadata.image_format)
    after: nn.Module = nn.Softmax(1)
    if metadata.has_preprocessing:
        before, after = nn.Identity(), nn.Identity()
    batch = session.get_inputs()[0].shape[0]
    count = batch if isinstance(batch, int) else 1

    def probabilities(image: Tensor) -> Tensor:
        images = before(image.unsqueeze(0).contiguous()).expand(count, -1, -1, -1).contiguous()
        return after(run_session(session, images))[0]

    return Classifier(metadata.class_names, probabilities)


def find_images(paths: Sequence[str]) -> list[str]:
    """List image files, and those in folders and below, in order.

    Raises:
        UserError: a path that is not there, or a folder without an image.
    """
    found: list[str] = []
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{path}: there is no such image or folder")
        inside = list(list_images(path)) if Path(path).is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: this folder has no image ({', '.join(SUFFIXES)})")
        found += inside
    return found


def classify(classifier: Classifier, paths: Sequence[str], top: int, max_bad_images: int = 0) -> list[Prediction]:
    """Classify image files, one after the other, since each may have a size of its own.

    Args:
        classifier: the network.
        paths: of the files.
        top: how many classes to name for each.
        max_bad_images: how many damaged files are left out; the next one is an error.

    Raises:
        UserError: a file is not an image.
    """
    damaged = BadImages(max_bad_images)
    found = []
    for path in paths:
        try:
            image = read_rgb(path)
        except BadImageError as error:
            if not max_bad_images:
                raise
            damaged.add(error)
            continue
        found.append(Prediction(path, _best(classifier, image, top)))
    return found


def _best(classifier: Classifier, image: Tensor, top: int) -> tuple[tuple[str, float], ...]:
    probabilities, positions = classifier.probabilities(image).topk(min(top, len(classifier.class_names)))
    names = [classifier.class_names[position] for position in positions.tolist()]
    return tuple(zip(names, probabilities.tolist(), strict=True))


def write_csv(found: Sequence[Prediction], file: Path) -> None:
    """Write a row an image: its path, then each class and its probability, the best first."""
    most = max((len(each.classes) for each in found), default=0)
    ranks = range(1, most + 1)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *(f"{column}_{rank}" for rank in ranks for column in ("class", "probability"))])
        for each in found:
            writer.writerow([each.path, *(cell for name, p in each.classes for cell in (name, f"{p:.6f}"))])
