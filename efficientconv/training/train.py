"""``train()``: from a configuration to a trained network and its run directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from filelock import FileLock
from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger

from efficientconv.console import console, shares_screen
from efficientconv.datasets import ImageData
from efficientconv.datasets.image_format import ImageFormat
from efficientconv.errors import Interrupted
from efficientconv.messages import one_line
from efficientconv.processes import started_outside
from efficientconv.runs.directory import RunDirectory
from efficientconv.training.build import build_callbacks, build_classifier, build_trainer, open_data
from efficientconv.training.checkpoints import read_checkpoint
from efficientconv.training.classifier import Classifier
from efficientconv.training.ddp import as_started, device_count, loss_of_others_told, run_ranks
from efficientconv.training.evaluate import score
from efficientconv.training.lightning_patches import silence_lightning
from efficientconv.training.loggers.mistakes import find_mistakes, log_mistakes
from efficientconv.training.loggers.opening import open_loggers, sync_lines
from efficientconv.training.loggers.wandb_run import WandbRun
from efficientconv.training.memory_format import use_channels_last
from efficientconv.training.precision import require_possible, uses_cuda
from efficientconv.training.provenance import software
from efficientconv.training.recorder import Recorder
from efficientconv.training.settings import require_sensible
from efficientconv.training.stopping import StopRequest
from efficientconv.training.summary_table import evaluation_line, resume_line, summary_table
from efficientconv.training.warm_start.network import Network, as_stored, build_network
from efficientconv.training.warm_start.teacher import find_teacher, kept_teacher

log = logging.getLogger(__name__)


def train(config: Mapping[str, Any], run: RunDirectory, overrides: Sequence[str] = ()) -> float | None:
    """Train, or go on training, in a run directory.

    Args:
        config: the resolved configuration (``configs/train.yaml`` composed, or a stored one), with ``choices``, the
            option of each group.
        run: where everything is written; where it holds a checkpoint, training goes on from there.
        overrides: the command line, for the record.

    Returns:
        The best top-1 accuracy, a fraction of 1, for sweepers that optimise: on the part of the training images that
        ``data.val_split`` keeps back, else on the test set; ``None`` where nothing was evaluated.

    Raises:
        UserError: something the user can put right.
        Interrupted: a signal to stop came; says how to go on.
    """
    silence_lightning()
    require_sensible(config)
    require_possible(config["trainer"])
    on_cuda = uses_cuda(config["trainer"]["accelerator"])
    config = {**config, "channels_last": use_channels_last(config["channels_last"], config["conv"], on_cuda)}
    with run.lock(), run.stay_finished(), StopRequest() as stop:
        if not run.config_file.exists():
            begin(run, config)
            run.update_summary(overrides=list(overrides))
        with bad_end_recorded(run, config):
            if started_outside():
                return fit_as_started(config, run, stop)
            count = device_count(config["trainer"])
            return fit(config, run, stop) if count == 1 else fit_on_ranks(count, config, run, stop)


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
        **software(),
    )


@contextmanager
def bad_end_recorded(run: RunDirectory, config: Mapping[str, Any]) -> Iterator[None]:
    """Write into the summary how the block ends, where it ends badly; tell an interruption how to go on."""
    try:
        yield
    except Interrupted as error:
        error.going_on = resume_line(run, config)
        _end(run, "interrupted", str(error))
        raise
    except Exception as error:
        with suppress(OSError):  # of a full disk the first error tells more than the second
            _end(run, "failed", one_line(error))
        raise


def _end(run: RunDirectory, status: str, error: str) -> None:
    if run.read_summary().get("status") == "running":
        run.update_summary(status=status, error=error)


def fit_on_ranks(count: int, config: Mapping[str, Any], run: RunDirectory, stop: StopRequest) -> float | None:
    """Train in ``count`` further processes, each of which calls `fit`; return the best top-1 accuracy."""
    begin(run, config)
    instantiate(config["data"], _convert_="all").prepare_data()  # once, before all ranks want to
    run_ranks(run, count, stop)
    return run.read_summary()["best"].get("top1")


def fit_as_started(config: Mapping[str, Any], run: RunDirectory, stop: StopRequest) -> float | None:
    """Train as one of the processes that torchrun or srun has started, each of which calls this."""
    with FileLock(run.path / ".data.lock"):  # one at a time, so that the first one fetches what is missing
        instantiate(config["data"], _convert_="all").prepare_data()
    with loss_of_others_told(f"the same line with resume=true run={run.path}"):
        return fit(as_started(config), run, stop)


def fit(config: Mapping[str, Any], run: RunDirectory, stop: StopRequest) -> float | None:
    """Train in this process, which may be one rank of several; return the best top-1 accuracy."""
    seed_everything(config["seed"], verbose=False)
    last = run.checkpoint("last") if run.checkpoint("last").exists() else None
    if last is not None:
        read_checkpoint(last)  # refuse a damaged one before anything changes
        log.info("going on from %s", last)
    data = open_data(config["data"])
    network = build_network(as_stored(config) if last else config, data)  # its weights are in last
    teacher = kept_teacher(config, data, run) if last else find_teacher(config, network, data, run)
    classifier, _ = build_classifier(config, data, network, teacher)
    announce(network, run, data)
    if network.init_from and run.writable and config["trainer"]["limit_val_batches"]:
        run.update_summary(at_start=score_at_start(network, data, config))
    recorder = Recorder(run)
    callbacks = build_callbacks(config, run, stop, recorder)
    with open_loggers(config, run, network.report) as loggers:
        trainer = build_trainer(config, callbacks, loggers, run.path)
        begin(run, config)
        with stop.deferred():
            trainer.fit(classifier, datamodule=data, ckpt_path=last, weights_only=True)
        figures = recorder.figures() | test_figures(trainer, classifier, data, run)
        summary = run.update_summary(status="done", bad_images=data.bad_images, **figures)
        show_mistakes(loggers, classifier, data, run, config["trainer"])
    console().print(summary_table(run, summary, data.evaluated_on))
    console().print(evaluation_line(run, config), soft_wrap=True)
    for line in sync_lines(loggers):
        console().print(line, soft_wrap=True)
    return recorder.best.get("top1")


def announce(network: Network, run: RunDirectory, data: ImageData) -> None:
    """Print what was replaced and what the figures are measured on, and keep it with the run."""
    report = network.report
    image_format = ImageFormat.of(data)
    console().print(report)
    if data.evaluated_on == "test":
        say = print if shares_screen() else log.info  # once for each of hundreds of jobs, it would say nothing
        say(
            "data.val_split=0: the best epoch, and the top-1 that a sweeper optimises, are chosen on the test set; "
            "data.val_split=0.1 would choose them on a tenth of the training images"
        )
    if not run.replaced_file.exists():  # a run that goes on does not know the errors that its layers began with
        run.write_json(run.replaced_file.name, report.to_dict())
    run.update_summary(
        params=report.params_after,
        macs=report.macs_after,
        num_classes=data.num_classes,
        class_names=data.class_names,
        normalization=asdict(data.normalization) if data.normalization else None,
        data_fingerprint=data.fingerprint(),
        image_format=image_format.to_dict() if image_format else None,
        evaluated_on=data.evaluated_on,
        **({"init_from": network.init_from} if network.init_from else {}),
    )


def score_at_start(network: Network, data: ImageData, config: Mapping[str, Any]) -> dict[str, float]:
    """Return what a network with weights from elsewhere scores before it is trained, and log it."""
    device = {**config["trainer"], "devices": 1, "num_nodes": 1}
    figures = score(network.model, data, device, stage="validate", channels_last=config["channels_last"])
    log.info(
        "before training: loss %.3f, top-1 %.2f%% on %s", figures["loss"], 100 * figures["top1"], data.evaluated_on
    )
    return figures


def test_figures(trainer: Trainer, classifier: Classifier, data: ImageData, run: RunDirectory) -> dict[str, Any]:
    """Score the finished run on the test set, where no epoch has; return ``{"test": figures}``, or nothing.

    The weights are those that `evaluate` finds in last.ckpt, averaged ones where the run averages: where a run was
    stopped at the end of its last epoch, Lightning has loaded the ones that training would have gone on with.
    """
    if data.evaluated_on == "test":
        return {}
    trainer.strategy.barrier()  # until the first rank has put the checkpoint in its place
    load_last(classifier, run)
    (figures,) = trainer.test(classifier, datamodule=data, verbose=False)
    return {"test": {name.removeprefix("test/"): value for name, value in figures.items()}}


def show_mistakes(
    loggers: Sequence[Logger], classifier: Classifier, data: ImageData, run: RunDirectory, trainer: Mapping[str, Any]
) -> None:
    """Let W&B, where it is a logger, show what the finished network gets wrong on the test images."""
    for logger in loggers:
        if isinstance(logger, WandbRun):
            steps = load_last(classifier, run)
            mistakes = find_mistakes(classifier, data, trainer)
            logger.at_the_end(partial(log_mistakes, logger, mistakes, data, steps))


def load_last(classifier: Classifier, run: RunDirectory) -> int:
    """Load the weights of last.ckpt; return the optimizer steps that they took."""
    checkpoint = read_checkpoint(run.checkpoint("last"))
    classifier.load_state_dict(checkpoint["state_dict"])
    return checkpoint["global_step"]
