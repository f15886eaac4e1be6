"""The model card: what somebody who finds the file has to know, as Markdown, written from the run directory.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, arXiv:1810.03993, as far as a run knows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from efficientconv.deploy.metadata import Metadata
from efficientconv.deploy.outcome import Exported, Stage
from efficientconv.deploy.trained import TrainedRun

OVERRULED = ("max_epochs",)  # by the trainer's
MOST_CLASSES = 20  # named on the card; the file names all


def model_card(exported: Exported, trained: TrainedRun, size: int) -> str:
    """Write the card.

    Args:
        exported: what was written.
        trained: the run that it came from.
        size: of the file, in bytes.
    """
    return "\n".join(_lines(exported, trained, size)) + "\n"


def _lines(exported: Exported, trained: TrainedRun, size: int) -> Iterator[str]:
    metadata, choices = exported.metadata, exported.metadata.provenance["choices"]
    yield f"# {exported.file.name}"
    yield ""
    yield (
        f"An image classifier of {len(metadata.class_names)} classes: `model={choices.get('model', '?')} "
        f"conv={choices.get('conv', '?')}`, trained on `data={choices.get('data', '?')}`, folded for inference and "
        f"exported by efficientconv. {size / 2**20:,.2f} MiB."
    )
    yield from ("", "## Input and output", "")
    yield from _interface(metadata)
    yield from ("", "## Figures", "")
    yield from _figures(exported.stages)
    yield from ("", f"Accuracies on {exported.images:,} images of the test set; MACs for one image.")
    yield from _remarks(metadata, trained)
    yield from ("", "## Training", "")
    yield from _training(metadata, trained)
    if metadata.citations:
        yield from ("", "## Citation", "")
        yield from (f"- {citation}" for citation in metadata.citations)


def _interface(metadata: Metadata) -> Iterator[str]:
    taken, names = metadata.image_format, metadata.class_names
    sides = "shorter side" if taken.keep_aspect else "both sides"
    resized = f"{sides} scaled to {taken.resize} pixels (bilinear, antialiased)"
    prepared = f"{resized}, the middle {taken.size}×{taken.size} cut out, divided by 255, minus mean, divided by std"
    if metadata.has_preprocessing:
        yield f"- Takes photographs of any size, (N, 3, H, W) uint8, red, green, blue. Inside: {prepared}."
        yield "- Gives probabilities, (N, classes) float32."
    else:
        yield f"- Takes (N, {taken.channels}, {taken.size}, {taken.size}) float32: {prepared}."
        yield "- Gives logits, (N, classes) float32; their softmax is the probabilities."
    yield f"- Mean {_numbers(taken.mean)}, std {_numbers(taken.std)}, of pixels scaled to [0, 1]."
    others = len(names) - MOST_CLASSES
    rest = f" and {others} more, which the file's metadata names" if others > 0 else ""
    yield f"- Classes, in order: {', '.join(names[:MOST_CLASSES])}{rest}."


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _figures(stages: tuple[Stage, ...]) -> Iterator[str]:
    yield "| | top-1 | same top-1 as before | largest difference | parameters | MACs |"
    yield "|---|---|---|---|---|---|"
    for stage in stages:
        yield "| " + " | ".join(stage.cells()) + " |"


def _remarks(metadata: Metadata, trained: TrainedRun) -> Iterator[str]:
    provenance = metadata.provenance
    if provenance["weights"] == "best" and trained.summary.get("evaluated_on") == "test":
        yield from ("", "The epoch was chosen on this same test set, so its accuracy is optimistic.")
    if metadata.quantize == "int8":
        yield from ("", "Weights and activations are 8-bit integers, calibrated on images of the training set.")


def _training(metadata: Metadata, trained: TrainedRun) -> Iterator[str]:
    provenance, config = metadata.provenance, trained.config
    yield f"- Run `{provenance['run']}`, {provenance['weights']} weights, seed {provenance.get('seed')}."
    recipe = f"`recipe={provenance['choices'].get('recipe', '?')}`: {_recipe(config['recipe'])}"
    yield f"- {provenance.get('epochs')} epochs of {recipe}."
    yield f"- Command line: `{' '.join(provenance.get('overrides') or ['(none)'])}`."
    yield f"- Commit {provenance.get('commit')}, on {provenance.get('device')}."
    for key in ("trained_with", "exported_with"):
        packages = ", ".join(f"{name} {number}" for name, number in (provenance[key] or {}).items())
        yield f"- {key.replace('_', ' ').capitalize()} {packages}."
    yield "- The whole configuration is `config.yaml` of the run directory."


def _recipe(recipe: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in recipe.items() if isinstance(value, int | float) and name not in OVERRULED}
    return ", ".join(f"{name} {value}" for name, value in plain.items())
