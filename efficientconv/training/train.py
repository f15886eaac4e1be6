"""``train()``: from a configuration to a trained network and its run directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment

from efficientconv.compose import ReplacementReport, create_model
from efficientconv.console import console
from efficientconv.datasets import ImageData
from efficientconv.datasets.image_format import ImageFormat
from efficientconv.errors import Interrupted
from efficientconv.messages import one_line
from efficientconv.runs.directory import RunDirectory
from efficientconv.training import loggers as logging_tools
from efficientconv.training.checkpoints import RandomState, read_checkpoint
from efficientconv.training.classifier import Classifier
from efficientconv.training.cuda_graphs import require_graphs_possible
from efficientconv.training.heap import keep_freed_memory
from efficientconv.training.launch import device_count, run_ranks
from efficientconv.training.lightning_patches import Unprofiled, silence_lightning, skip_sigterm_broadcast
from efficientconv.training.precision import allow_tf32, require_possible, resolve_precision, uses_cuda
from efficientconv.training.progress import Monitor
from efficientconv.training.provenance import environment
from efficientconv.training.recorder import Recorder
from efficientconv.training.settings import require_sensible
from efficientconv.training.stopping import StopRequest
from efficientconv.training.summary_table import evaluation_line, summary_table

log = logging.getLogger(__name__)
RECIPE_TO_CLASSIFIER = ("optimizer", "schedule", "label_smoothing", "mixup", "cutmix", "decay_norm_and_bias")


def train(config: Mapping[str, Any], run: RunDirectory, overrides: Sequence[str] = ()) -> float | None:
    """Train, or go on training, in a run directory.

    Args:
        config: the resolved configuration (``configs/train.yaml`` composed, or a stored one), with ``choices``, the
            option of each group.
        run: where everything is written; where it holds a checkpoint, training goes on from there.
        overrides: the command line, for the record.

    Returns:
        The best top-1 accuracy, a fraction of 1, for sweepers that optimise; ``None`` where nothing was evaluated.

    Raises:
        UserError: something the user can put right.
        Interrupted: SIGINT or SIGTERM came; the run directory can be resumed.
    """
    silence_lightning()
    require_sensible(config)
    with run.lock(), StopRequest() as stop:
        if not run.config_file.exists():
            begin(run, config)
            run.update_summary(overrides=list(overrides))
        try:
            return _on_devices(config, run, stop)
        except Interrupted as error:
            _end_badly(run, "interrupted", str(error))
            raise
        except Exception as error:
            with suppress(OSError):  # of a full disk the first error tells more than the second
                _end_badly(run, "failed", one_line(error))
            raise


def begin(run: RunDirectory, config: Mapping[str, Any]) -> None:
    """Write the configuration, and that the run is running.

    A new run says so at once; one that goes on, when everything is built: if that fails, nothing of it has changed.
    """
    run.write_config(config)
    run.update_summary(
        status="running",
        error=None,
        started=run.read_summary().get("started", datetime.now().astimezone().isoformat(timespec="seconds")),
        seed=config["seed"],
        **environment(config["trainer"]["accelerator"]),
    )


def _end_badly(run: RunDirectory, status: str, error: str) -> None:
    if run.read_summary().get("status") == "running":
        run.update_summary(status=status, error=error)


def _on_devices(config: Mapping[str, Any], run: RunDirectory, stop: StopRequest) -> float | None:
    require_possible(config["trainer"])
    count = device_count(config["trainer"])
    if count == 1:
        return fit(config, run, stop)
    begin(run, config)
    instantiate(config["data"], _convert_="all").prepare_data()  # once, before all ranks want to
    run_ranks(run, count, stop)
    return run.read_summary()["best"].get("top1")


def fit(config: Mapping[str, Any], run: RunDirectory, stop: StopRequest) -> float | None:
    """Train in this process, which may be one rank of several; return the best top-1 accuracy."""
    seed_everything(config["seed"], verbose=False)
    if uses_cuda(config["trainer"]["accelerator"]):
        torch.cuda.reset_peak_memory_stats()  # of the jobs of a sweep each has its own
    data = instantiate(config["data"], _convert_="all")
    data.prepare_data()
    data.setup("fit")
    classifier, report = build_classifier(config, data)
    announce(report, run, data)
    found: list[Logger] = []
    recorder = Recorder(run)
    exit_code = 1
    try:
        for node in config["logger"].values() if run.writable else ():
            found.append(instantiate(node, _convert_="all")(run))
        logging_tools.describe(found, config, report)
        trainer = build_trainer(config, build_callbacks(config, run, stop, recorder), found)
        begin(run, config)
        run.update_summary(devices=trainer.num_devices)
        _run(trainer, classifier, data, run, stop)
        exit_code = 0
    finally:
        logging_tools.finish(found, exit_code)
    summary = run.update_summary(status="done", bad_images=data.bad_images, **recorder.figures())
    console().print(summary_table(run, summary, data.evaluated_on))
    console().print(evaluation_line(run), soft_wrap=True)
    return recorder.best.get("top1")


def build_classifier(config: Mapping[str, Any], data: ImageData) -> tuple[Classifier, ReplacementReport]:
    """Compose the network with its convolution, and wrap it with its recipe."""
    conv = instantiate(config["conv"], _convert_="all")
    backbone = instantiate(config["model"], _convert_="all")
    model, report = create_model(backbone, conv, data.num_classes, data.input_size)
    if config["cuda_graphs"]:
        require_graphs_possible(config["trainer"], uses_cuda(config["trainer"]["accelerator"]))
    recipe = instantiate({name: config["recipe"][name] for name in RECIPE_TO_CLASSIFIER}, _convert_="all")
    classifier = Classifier(
        model,
        data.num_classes,
        regularization_weight=conv["regularization_weight"],
        channels_last=config["channels_last"],
        compile=config["compile"],
        cuda_graphs=config["cuda_graphs"],
        **recipe,
    )
    return classifier, report


def announce(report: ReplacementReport, run: RunDirectory, data: ImageData) -> None:
    """Print what was replaced, and keep it with the run."""
    image_format = ImageFormat.of(data)
    console().print(report)
    run.write_json("replaced.json", report.to_dict())
    run.update_summary(
        params=report.params_after,
        macs=report.macs_after,
        num_classes=data.num_classes,
        image_format=image_format.to_dict() if image_format else None,
        evaluated_on=data.evaluated_on,
    )


def build_callbacks(
    config: Mapping[str, Any], run: RunDirectory, stop: StopRequest, recorder: Recorder
) -> list[Callback]:
    """Build the callbacks that every run has, and those that ``callbacks=`` names."""
    callbacks = dict(config["callbacks"])
    checkpoints = instantiate(callbacks.pop("checkpoints"), _convert_="all")(run, stop, recorder)
    monitor = Monitor(config["trainer"]["log_every_n_steps"])
    chosen = [instantiate(node, _convert_="all") for node in callbacks.values()]
    return [*chosen, RandomState(), monitor, recorder, checkpoints]


def build_trainer(config: Mapping[str, Any], callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Build Lightning's trainer without what this project does itself."""
    settings = dict(config["trainer"])
    settings["precision"] = resolve_precision(settings["precision"], settings["accelerator"])
    allow_tf32()
    keep_freed_memory()
    trainer = Trainer(
        **{"profiler": Unprofiled(), **settings},
        plugins=[LightningEnvironment()],  # ranks are started here, by no cluster manager
        callbacks=callbacks,
        logger=loggers or False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),  # no other than ours
        num_sanity_val_steps=0,  # they would eat the first validation batches of some loaders
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    skip_sigterm_broadcast(trainer)
    return trainer


def _run(trainer: Trainer, classifier: Classifier, data: ImageData, run: RunDirectory, stop: StopRequest) -> None:
    last = run.checkpoint("last")
    if last.exists():
        read_checkpoint(last)  # refuse a damaged one with a message of ours
        log.info("going on from %s", last)
    with stop.deferred():
        trainer.fit(classifier, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    if data.evaluated_on == "validation":
        (test,) = trainer.test(classifier, datamodule=data, verbose=False)
        run.update_summary(test={name.removeprefix("test/"): value for name, value in test.items()})
