"""``export()``: from a run directory to a file that works without it, proved on the run's own test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from efficientconv.atomic import replaced_whole
from efficientconv.deploy.agreement import Agreement, Runner, agreement, require_agreement, run_batched, top1
from efficientconv.deploy.card import model_card
from efficientconv.deploy.fold import TOLERANCE, fold
from efficientconv.deploy.formats import Format, choose_format
from efficientconv.deploy.metadata import Metadata, citations, provenance
from efficientconv.deploy.options import Options
from efficientconv.deploy.outcome import Exported, Stage
from efficientconv.deploy.package import Package
from efficientconv.deploy.preprocessing import Preprocessing
from efficientconv.deploy.trained import TrainedRun
from efficientconv.profiling import complexity

FILE_TOLERANCE = 1e-3
"""Allowed between torch and the runtime of a format, as a part of the largest output: other kernels, other order."""


def export(trained: TrainedRun, options: Options, output: Path | None = None, weights: str | None = None) -> Exported:
    """Fold a run's network, write it, run what was written, and write a model card beside it.

    Args:
        trained: the run.
        options: what to write and how.
        output: the file; None is ``export/<model>-<conv>`` in the run directory, with the format's suffix.
        weights: ``last``, ``best`` or ``ema``; None is ``ema`` where the run averaged its weights, else ``last``.

    Raises:
        UserError: the network cannot be folded or written as asked, or what was written computes something else.
    """
    file_format = choose_format(options.format)
    model, chosen = trained.network(weights)
    test = _TestImages.of(trained, options.images)
    network, stages = _folded(model, test)
    metadata = Metadata(
        class_names=trained.class_names,
        image_format=trained.image_format,
        has_preprocessing=options.preprocessing,
        quantize=options.quantize,
        citations=citations(model),
        provenance=provenance(trained, chosen),
    )
    preprocessing = Preprocessing(trained.image_format) if options.preprocessing else None
    package = Package(network, preprocessing, options.batch, metadata)
    file = output or _default_output(trained, options, file_format)
    card = file.with_name(f"{file.name}.md")
    with TemporaryDirectory() as folder:
        temporary = Path(folder, file.name)
        _writer(file_format, trained, options)(package, temporary)
        stages.append(_written(package, file_format, temporary, test, options))
        content = temporary.read_bytes()
    exported = Exported(file, card, len(test.labels), tuple(stages), metadata)
    for path, whole in ((file, content), (card, model_card(exported, trained, len(content)).encode())):
        with replaced_whole(path) as temporary:
            temporary.write_bytes(whole)
    return exported


@dataclass(frozen=True)
class _TestImages:
    """Test images as the network takes them, (N, C, H, W) float32, and their classes (N,)."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, trained: TrainedRun, most: int) -> _TestImages:
        images, labels = zip(*trained.data.test_sample(most), strict=True)
        return cls(torch.cat(images).float().contiguous(), torch.cat(labels))


def _folded(model: nn.Module, test: _TestImages) -> tuple[nn.Module, list[Stage]]:
    """Fold the network, and prove it on random and on real images."""
    channels, height, width = test.images.shape[1:]
    network = fold(model, (channels, height, width))
    before, after = (run_batched(module, test.images) for module in (model, network))
    against = agreement(before, after)
    require_agreement(against, TOLERANCE, "folding")
    return network, [_stage("trained", model, before, test, None), _stage("folded", network, after, test, against)]


def _stage(name: str, model: nn.Module, outputs: Tensor, test: _TestImages, against: Agreement | None) -> Stage:
    channels, height, width = test.images.shape[1:]
    cost = complexity(model, (channels, height, width))
    return Stage(name, cost.params, cost.macs, top1(outputs, test.labels), against)


def _writer(file_format: Format, trained: TrainedRun, options: Options) -> Callable[[Package, Path], None]:
    if options.quantize == "none":
        return file_format.write
    return partial(file_format.write, calibration=_calibration(trained, options))


def _calibration(trained: TrainedRun, options: Options) -> Iterator[Tensor]:
    """Yield batches of ``options.calibration`` of the run's training images in all, augmented as in training."""
    left, size = options.calibration, options.batch or 32
    trained.data.prepare_data()
    for images, _ in trained.data.train_dataloader():
        for batch in images.float().split(size):
            if left <= 0:
                return
            if len(batch) == size or options.batch is None:
                left -= len(batch)
                yield batch.contiguous()


def _written(package: Package, file_format: Format, file: Path, test: _TestImages, options: Options) -> Stage:
    """Run the file on the test images beside the folded network, and prove that it computes the same."""
    runner = file_format.open_runner(file, package)
    images = test.images if package.preprocessing is None else package.preprocessing.undo(test.images)
    expected = run_batched(package.whole, images)
    outputs = run_batched(runner, images, package.batch)
    name = options.format if options.quantize == "none" else f"{options.format} {options.quantize}"
    found = agreement(expected, outputs)
    if options.quantize == "none":
        require_agreement(found, FILE_TOLERANCE, f"format={options.format}")
        if package.preprocessing is not None:
            _require_other_sizes(package, runner, images)
    return Stage(name, None, None, top1(outputs, test.labels), found)


def _require_other_sizes(package: Package, runner: Runner, images: Tensor) -> None:
    """Prove the preprocessing on images that are not square, smaller and larger than what the network takes."""
    few = images[:4]
    for other in (few[:, :, : few.shape[2] * 3 // 4], few.repeat_interleave(2, 2).repeat_interleave(3, 3)):
        expected, outputs = run_batched(package.whole, other), run_batched(runner, other, package.batch)
        require_agreement(agreement(expected, outputs), FILE_TOLERANCE, "preprocessing=true")


def _default_output(trained: TrainedRun, options: Options, file_format: Format) -> Path:
    choices = trained.config.get("choices", {})
    name = "-".join(choices[group] for group in ("model", "conv") if group in choices) or "network"
    quantized = "" if options.quantize == "none" else f"-{options.quantize}"
    return trained.run.path / "export" / f"{name}{quantized}{file_format.suffix}"
