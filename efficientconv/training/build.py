"""From a configuration to what is trained, what watches it, and Lightning's trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from torch import nn

from efficientconv.compose import ReplacementReport
from efficientconv.datasets import ImageData
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.checkpoints import RandomState
from efficientconv.training.classifier import Classifier
from efficientconv.training.cuda_graphs import require_graphs_possible
from efficientconv.training.ddp import cluster_environment
from efficientconv.training.lightning_patches import skip_sigterm_broadcast
from efficientconv.training.malloc import keep_freed_memory
from efficientconv.training.memory_format import use_channels_last
from efficientconv.training.precision import allow_tf32, resolve_precision, uses_cuda
from efficientconv.training.progress import Monitor
from efficientconv.training.recorder import Recorder
from efficientconv.training.stopping import StopRequest
from efficientconv.training.warm_start.distillation import Distillation
from efficientconv.training.warm_start.freezing import freeze
from efficientconv.training.warm_start.network import Network, build_network

RECIPE_TO_CLASSIFIER = (
    "optimizer",
    "schedule",
    "loss",
    "label_smoothing",
    "mixup",
    "cutmix",
    "decay_norm_and_bias",
    "layer_decay",
)


def open_data(node: Mapping[str, Any]) -> ImageData:
    """Build a data set of its configuration, and read it, or list its files."""
    data = instantiate(node, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    return data


def build_classifier(
    config: Mapping[str, Any], data: ImageData, network: Network | None = None, teacher: nn.Module | None = None
) -> tuple[Classifier, ReplacementReport]:
    """Compose the network with its convolution, and wrap it with its recipe.

    Args:
        config: the resolved configuration.
        data: the data set, set up.
        network: what training begins with; None builds it of ``config``.
        teacher: to learn from as well; None for the labels alone.

    Raises:
        UserError: a setting that does not fit the network or the device, or see `build_network`.
    """
    network = network or build_network(config, data)
    freeze(network.model, config.get("freeze") or ())
    on_cuda = uses_cuda(config["trainer"]["accelerator"])
    if config["cuda_graphs"]:
        require_graphs_possible(config["trainer"], on_cuda)
    recipe = config["recipe"]  # a stored one may be of a time that had fewer keys
    node = {"recipe": {name: recipe[name] for name in RECIPE_TO_CLASSIFIER if name in recipe}}  # errors name its keys
    classifier = Classifier(
        network.model,
        data.num_classes,
        regularization_weight=config["conv"]["regularization_weight"],
        distillation=None if teacher is None else Distillation(teacher, **recipe["distillation"]),
        channels_last=use_channels_last(config["channels_last"], config["conv"], on_cuda),
        compile=config["compile"],
        cuda_graphs=config["cuda_graphs"],
        **instantiate(node, _convert_="all")["recipe"],
    )
    return classifier, network.report


def build_callbacks(
    config: Mapping[str, Any], run: RunDirectory, stop: StopRequest, recorder: Recorder
) -> list[Callback]:
    """Build the callbacks that every run has, and those that ``callbacks=`` names."""
    nodes = dict(config["callbacks"])
    checkpoints = instantiate(nodes.pop("checkpoints"), _convert_="all")(run, stop, recorder)
    chosen = [instantiate(node, _convert_="all") for node in nodes.values()]
    trainer = config["trainer"]
    monitor = Monitor(trainer["log_every_n_steps"], show=not shows_progress_bar(trainer, chosen))
    return [*chosen, RandomState(), monitor, recorder, checkpoints]


def shows_progress_bar(settings: Mapping[str, Any], callbacks: Sequence[Callback]) -> bool:
    """Tell whether a progress bar of Lightning's is asked for, which then stands where ours would."""
    return settings.get("enable_progress_bar", False) or any(isinstance(each, ProgressBar) for each in callbacks)


def build_trainer(
    config: Mapping[str, Any], callbacks: list[Callback], loggers: Sequence[Logger], folder: Path | None = None
) -> Trainer:
    """Build Lightning's trainer, by default without what this project does itself.

    Args:
        config: the resolved configuration; every argument of the trainer can be set in its ``trainer``.
        callbacks: see `build_callbacks`.
        loggers: those of the run.
        folder: where callbacks of Lightning's write: the run directory; ``None`` is the current one.
    """
    settings: dict[str, Any] = {"enable_model_summary": False, "default_root_dir": folder} | dict(config["trainer"])
    settings["num_sanity_val_steps"] = 0  # they would eat the first validation batches of some loaders
    settings["precision"] = resolve_precision(settings["precision"], settings["accelerator"])
    settings["enable_progress_bar"] = shows_progress_bar(settings, callbacks)
    allow_tf32()
    keep_freed_memory()
    trainer = Trainer(
        **settings,
        plugins=[cluster_environment()],
        callbacks=callbacks,
        logger=list(loggers) or False,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),  # no other than these
    )
    skip_sigterm_broadcast(trainer)
    return trainer
