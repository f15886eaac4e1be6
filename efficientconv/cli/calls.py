"""What the tools' entries call: from a composed configuration to the function that does the work."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any, cast


def evaluate(config: Mapping[str, Any]) -> None:
    """Evaluate a run, print its figures, and keep them with it where its directory can be written to."""
    from omegaconf import OmegaConf

    from efficientconv.console import console
    from efficientconv.errors import UserError
    from efficientconv.messages import one_line
    from efficientconv.runs.directory import RunDirectory
    from efficientconv.training.evaluate import evaluate as evaluate_run

    if not config["run"]:
        raise UserError("run is empty: give a run directory, run=outputs/runs/<data>/<model>-<conv>/<time>")
    run = RunDirectory(config["run"])
    trainer = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.create(config["trainer"]), resolve=True))
    settings = {"data": config["data"], "weights": config["weights"], "allow": config["allow"]}
    figures = evaluate_run(run, trainer, **settings)
    accuracies = f"top-1 {figures['top1']:.2%}  top-5 {figures['top5']:.2%}"
    console().print(f"{accuracies}  loss {figures['loss']:.4f}  ({figures['weights']} weights)")
    if figures["note"]:
        print(figures["note"])
    try:
        run.write_json("eval.json", figures)
    except OSError as error:  # somebody else's run directory, perhaps
        print(f"not kept in the run directory: {one_line(error)}", file=sys.stderr)


def profile(config: Mapping[str, Any]) -> None:
    """Count a network, which is called by the words that build it."""
    from efficientconv.profiling.tool import profile as profile_network

    groups = [f"{group}={config['choices'][group]}" for group in ("model", "conv")]
    details = [word for word in config["overrides"] if word.lstrip("+~").startswith(("model.", "conv."))]
    profile_network(config, name=" ".join([*groups, *details]))


def tables(config: Mapping[str, Any]) -> None:
    """Print tables; with ``run=true``, train what is missing in them first."""
    from efficientconv.tables import tool

    sweeps = tool.run(config, config["training"])
    if sweeps is not None:
        done = [_trained(words) for words in sweeps]
        tool.show(config, config["training"])
        raise SystemExit(0 if all(done) else 1)


def _trained(words: list[str]) -> bool:
    """Train a sweep, with standard output left to the tables; tell whether all of it succeeded."""
    from efficientconv.cli import run
    from efficientconv.config_path import own_configs

    own = own_configs()
    try:
        with redirect_stdout(sys.stderr):
            run("train", ["-m", *([] if own is None else ["--config-dir", str(own)]), *words])
    except SystemExit as end:
        if end.code != 1:
            raise  # a signal came
        return False
    return True


def bench(config: Mapping[str, Any]) -> None:
    """Measure what the first word says, without what training says of an epoch."""
    from efficientconv.bench.tool import bench as run_bench

    logging.getLogger("efficientconv").setLevel(logging.WARNING)
    run_bench(config)


def predict(config: Mapping[str, Any]) -> None:
    """Classify the images that the command line names."""
    from efficientconv.deploy.tool import predict as predict_images

    predict_images(config, config["images"])
