"""``efficientconv features``: how alike the feature maps of some runs are, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from efficientconv.atomic import replaced_whole
from efficientconv.console import console
from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError, require_whole
from efficientconv.features.maps import FeatureMaps, read_maps
from efficientconv.features.picture import draw
from efficientconv.features.similarity import ALIKE, Similarity, similarity
from efficientconv.training.lightning_patches import silence_lightning


def features(config: Mapping[str, Any]) -> list[Similarity]:
    """Compare the feature maps of runs, print the numbers and draw the picture.

    Args:
        config: ``configs/features.yaml`` composed.

    Returns:
        The similarities of each run's maps.

    Raises:
        UserError: no run, one that is not finished, no such stage or image, or no Matplotlib.
    """
    silence_lightning()
    require_sensible(config)
    runs = [TrainedRun(run, allow=config["allow"]) for run in config["run"]]
    settings = (config["stage"], config["images"], config["weights"])
    found = [read_maps(trained, name, *settings) for trained, name in zip(runs, names(runs), strict=True)]
    fewest = min(len(each.images) for each in found)
    if config["image"] >= fewest:
        raise UserError(f"image={config['image']}: there are {fewest} images, numbered from 0; images= says how many")
    similarities = [similarity(each.maps) for each in found]
    file = Path(config["save"])
    with replaced_whole(file) as temporary:
        draw(found, similarities, config["image"], config["maps"], temporary)
    console().print(_table(found, similarities))
    print(file)
    return similarities


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse what can be refused before a run is opened.

    Raises:
        UserError: names the key and the rule.
    """
    if not config["run"]:
        raise UserError("run is empty: give one run directory, or several with commas: run=outputs/…,outputs/…")
    for key, least in (("image", 0), ("images", 1), ("maps", 1)):
        require_whole(key, config[key], least)


def names(runs: Sequence[TrainedRun]) -> list[str]:
    """Call each run by its network, ``resnet20 bsconv_u``; by its directory where that is not enough."""
    networks = [f"{run.config['choices']['model']} {run.config['choices']['conv']}" for run in runs]
    paths = [str(run.run.path) for run in runs]
    return [network if networks.count(network) == 1 else path for network, path in zip(networks, paths, strict=True)]


def _table(found: Sequence[FeatureMaps], similarities: Sequence[Similarity]) -> Table:
    headers = ("stage", "maps", "of them zero", "mean cosine similarity", f"pairs at {ALIKE} and above")
    title = f"{len(found[0].images)} test images"
    table = Table(Column("run", overflow="fold"), *headers, title=title, title_justify="left")
    for each, alike in zip(found, similarities, strict=True):
        size = f"{each.maps.shape[1]} of {each.maps.shape[2]}×{each.maps.shape[3]}"
        table.add_row(each.run, each.stage, size, f"{alike.dead:.1f}", f"{alike.mean:.4f}", f"{alike.alike:.2%}")
    return table
