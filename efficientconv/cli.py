"""Every tool's front door: Hydra's grammar, one-line errors, exit codes. Heavy imports happen inside the tools.

Exit codes: 0 done, 1 an error (also where only some jobs of a sweep failed), 2 an unknown tool, 130 and 143 after
SIGINT and SIGTERM.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from efficientconv.config_path import CONFIGS
from efficientconv.errors import Interrupted, UserError
from efficientconv.messages import one_line
from efficientconv.runs import names as run_names

WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
Task = Callable[[DictConfig], Any]


def main() -> None:
    """Run ``efficientconv <tool> ...``."""
    tools: dict[str, Callable[[], None]] = {
        "train": train,
        "eval": evaluate,
        "profile": profile,
        "tables": tables,
        "bench": bench,
        "report": report,
        "export": export,
        "predict": predict,
    }
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: efficientconv <tool> [key=value ...]\ntools: {', '.join(tools)}; each has --help")
        raise SystemExit(0 if words else 2)
    if words[0] not in tools:
        print(f"efficientconv: there is no tool {words[0]!r}; the tools are {', '.join(tools)}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"efficientconv {words[0]}", *words[1:]]
    tools[words[0]]()


def train() -> None:
    """Train a network: ``python train.py model=resnet56 conv=bdrconv``."""
    sys.argv[1:] = run_names.composable(sys.argv[1:])
    _run("train", _train_job)


def evaluate() -> None:
    """Evaluate a run from its directory alone: ``python eval.py run=outputs/runs/...``."""
    # The run's own data is the default, so a key of it is always an addition to an empty group.
    sys.argv[1:] = [f"++{word}" if word.startswith("data.") else word for word in sys.argv[1:]]
    _run("eval", _evaluate_job)


def profile() -> None:
    """Count what a network costs: ``efficientconv profile model=resnet56 conv=bdrconv``."""
    _run("profile", _profile_job)


def tables() -> None:
    """Print published tables beside computed and measured figures: ``efficientconv tables table=slimconv/imagenet``."""
    from efficientconv.tables import tool
    from efficientconv.tables.arguments import split_arguments

    with _one_line_errors("tables"):
        own, overrides = split_arguments(sys.argv[1:])
    sweeps: list[list[str]] | None = None

    def print_or_plan(config: DictConfig) -> None:
        nonlocal sweeps
        sweeps = tool.run(_plain(config, resolve=False), overrides)

    sys.argv[1:] = own
    _run("tables", print_or_plan)
    if sweeps is not None:
        done = [_trained(words) for words in sweeps]
        sys.argv = ["efficientconv tables", *own]
        _run("tables", lambda config: tool.show(_plain(config, resolve=False), overrides))
        raise SystemExit(0 if all(done) else 1)


def bench() -> None:
    """Measure speed side by side: ``efficientconv bench loader ...``, ``efficientconv bench step ...``."""
    words = sys.argv[1:]
    if words and words[0].isalpha():
        sys.argv[1:] = [f"action={words[0]}", *words[1:]]
    _run("bench", _bench_job)


def report() -> None:
    """Make one table of many runs: ``efficientconv report outputs/sweeps/first``."""
    from efficientconv.report import tool
    from efficientconv.report.words import hydra_words

    with _one_line_errors("report"):
        sys.argv[1:] = hydra_words(sys.argv[1:])
    _run("report", lambda config: tool.run(_plain(config, resolve=False)))


def export() -> None:
    """Fold a finished run's network and write it: ``efficientconv export run=outputs/runs/... format=onnx``."""
    sys.argv[1:] = [f"++{word}" if word.startswith("data.") else word for word in sys.argv[1:]]
    _run("export", _export_job)


def predict() -> None:
    """Name the classes of images: ``efficientconv predict run=outputs/runs/... photo.jpg folder``."""
    paths = [word for word in sys.argv[1:] if "=" not in word and not word.startswith("-")]
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in paths]
    _run("predict", lambda config: _predict_job(config, paths))


def _trained(words: list[str]) -> bool:
    """Train a sweep, with standard output left to the tables; tell whether all of it succeeded."""
    sys.argv = ["efficientconv train", "-m", *words]
    try:
        with redirect_stdout(sys.stderr):
            train()
    except SystemExit as end:
        if end.code != 1:
            raise  # a signal came
        return False
    return True


def _run(name: str, task: Task) -> None:
    """Let Hydra compose the configuration and run the job or jobs; end the process with the status that fits."""
    run_names.register_resolvers()
    logging.raiseExceptions = False  # a log that cannot be written to must not bury the one line that says why
    failures: list[Exception] = []
    parent = os.getpid()

    def job(config: DictConfig) -> Any:
        try:
            return task(config)
        except Exception as error:
            _log_traceback(error)
            if os.getpid() != parent or WANTS_TRACEBACK:
                raise  # from a launcher's own process, the launcher carries the news
            print(one_line(error), file=sys.stderr)
            failures.append(error)

    with _one_line_errors(name):
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(job)()
    if len(failures) > 1:
        print(f"{len(failures)} jobs failed", file=sys.stderr)
    if failures:
        raise SystemExit(1)


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them in its own way
    try:
        yield
    except Interrupted as interrupted:
        print(f"interrupted ({interrupted})", file=sys.stderr)
        raise SystemExit(interrupted.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted (SIGINT)", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        print(one_line(error, name), file=sys.stderr)
        raise SystemExit(1) from None


def _log_traceback(error: Exception) -> None:
    """Write the traceback into train.log only: it would bury the one line that is for the user."""
    trace = "".join(traceback.format_exception(error))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"name": "efficientconv", "levelname": "ERROR", "msg": trace}))


def _train_job(config: DictConfig) -> float | None:
    from efficientconv.training.job import train_job

    hydra_config = HydraConfig.get()
    return train_job(
        config,
        directory=hydra_config.runtime.output_dir,
        choices={group: option for group, option in hydra_config.runtime.choices.items() if "/" not in group},
        overrides=list(hydra_config.overrides.task),
        is_sweep=hydra_config.mode is not None and hydra_config.mode.name == "MULTIRUN",
    )


def _plain(node: DictConfig, resolve: bool) -> dict[str, Any]:
    return {str(key): value for key, value in cast(dict, OmegaConf.to_container(node, resolve=resolve)).items()}


def _evaluate_job(config: DictConfig) -> None:
    from efficientconv.console import console
    from efficientconv.runs.directory import RunDirectory
    from efficientconv.training.evaluate import evaluate as evaluate_run

    if OmegaConf.is_missing(config, "run"):
        raise UserError("run is missing: python eval.py run=outputs/runs/<data>/<model>-<conv>/<time>")
    run = RunDirectory(config.run)
    found = evaluate_run(
        run,
        _plain(config.trainer, resolve=True),
        data=_plain(config.data, resolve=False) if config.get("data") else None,
        weights=config.weights,
        allow=list(config.allow),
    )
    accuracies = f"top-1 {found['top1']:.2%}  top-5 {found['top5']:.2%}"
    console().print(f"{accuracies}  loss {found['loss']:.4f}  ({found['weights']} weights)")
    if found["note"]:
        print(found["note"])
    try:
        run.write_json("eval.json", found)
    except OSError as error:  # somebody else's run directory, perhaps
        print(f"not kept in the run directory: {one_line(error)}", file=sys.stderr)


def _profile_job(config: DictConfig) -> None:
    from efficientconv.profiling.tool import profile as profile_network

    job = HydraConfig.get()
    groups = [f"{group}={job.runtime.choices[group]}" for group in ("model", "conv")]
    details = [word for word in job.overrides.task if word.lstrip("+~").startswith(("model.", "conv."))]
    profile_network(_plain(config, resolve=True), name=" ".join([*groups, *details]))


def _bench_job(config: DictConfig) -> None:
    from efficientconv.bench.tool import bench as run_bench

    logging.getLogger("efficientconv").setLevel(logging.WARNING)  # what training says of an epoch is not for here
    run_bench(_plain(config, resolve=True))


def _export_job(config: DictConfig) -> None:
    from efficientconv.deploy.tool import export_run

    if OmegaConf.is_missing(config, "run"):
        raise UserError("run is missing: efficientconv export run=outputs/runs/<data>/<model>-<conv>/<time>")
    data = _plain(config.pop("data"), resolve=False) if config.get("data") else None
    export_run(_plain(config, resolve=True) | {"data": data})


def _predict_job(config: DictConfig, paths: list[str]) -> None:
    from efficientconv.deploy.tool import predict as predict_images

    predict_images(_plain(config, resolve=True), paths)
