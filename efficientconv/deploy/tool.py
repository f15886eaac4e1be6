"""``efficientconv export`` and ``efficientconv predict``, as the command line calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from efficientconv.atomic import replaced_whole
from efficientconv.console import console
from efficientconv.deploy.classify import Prediction, classify, find_images, open_classifier, write_csv
from efficientconv.deploy.export import Exported, export
from efficientconv.deploy.options import Options
from efficientconv.deploy.sheet import MOST_ON_SHEET, draw_sheet
from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError, require_whole
from efficientconv.training.lightning_patches import silence_lightning

SHOWN = 20  # images in the table on the screen
DEFAULT_CSV = "predictions.csv"


def export_run(config: Mapping[str, Any]) -> Exported:
    """Export a run and print how it was proved.

    Args:
        config: ``configs/export.yaml``, resolved.

    Raises:
        UserError: see ``export``.
    """
    silence_lightning()
    options = Options.of(config)
    trained = TrainedRun(config["run"], config["data"], config["allow"])
    output = Path(config["output"]) if config["output"] else None
    exported = export(trained, options, output, config["weights"])
    console().print(_stages_table(exported))
    console().print(f"{exported.file}\n{exported.card}", soft_wrap=True)
    return exported


def predict(config: Mapping[str, Any], words: Sequence[str]) -> list[Prediction]:
    """Classify images, print the classes, and write what was asked for.

    Args:
        config: ``configs/predict.yaml``, resolved.
        words: of the command line: an ONNX file where ``run`` is none, then images and folders.

    Raises:
        UserError: no network, no image, one that is none, …
    """
    require_whole("top", config["top"], least=1)
    silence_lightning()
    model, paths = _split(config, words)
    images = find_images(paths)
    classifier = open_classifier(model, config["weights"], config["allow"])
    found = classify(classifier, images, config["top"], config["max_bad_images"])
    csv = config["csv"] or (DEFAULT_CSV if any(Path(path).is_dir() for path in paths) else None)
    console().print(_predictions_table(found))
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")
    if csv:
        with replaced_whole(Path(csv)) as temporary:
            write_csv(found, temporary)
        print(csv)
    if config["sheet"]:
        with replaced_whole(Path(config["sheet"])) as temporary:
            draw_sheet(found, temporary)
        shown = f" (the first {MOST_ON_SHEET})" if len(found) > MOST_ON_SHEET else ""
        print(f"{config['sheet']}{shown}")
    return found


def _split(config: Mapping[str, Any], words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the network, a run directory or an ONNX file, and the images."""
    model, paths = config["run"], words
    if model is None and words and words[0].lower().endswith(".onnx"):
        model, paths = words[0], words[1:]
    if model is None:
        raise UserError("a network is missing: efficientconv predict run=DIR images… or predict model.onnx images…")
    if not paths:
        raise UserError("images are missing: name image files or folders behind the network")
    return model, paths


def _stages_table(exported: Exported) -> Table:
    headers = ("", "top-1", "same top-1 as before", "largest difference", "params", "MACs")
    table = Table(*headers, title=f"on {exported.images:,} test images", title_justify="left")
    for stage in exported.stages:
        table.add_row(*stage.cells())
    return table


def _predictions_table(found: Sequence[Prediction]) -> Table:
    most = max((len(each.classes) for each in found), default=0)
    table = Table("image", *(f"{rank}." for rank in range(1, most + 1)))
    for each in found[:SHOWN]:
        table.add_row(each.path, *(f"{name} {probability:.1%}" for name, probability in each.classes))
    return table
