"""What ends a run: a short table, and the command lines that evaluate it or go on with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.safe_config import packages_to_allow


def summary_table(run: RunDirectory, summary: Mapping[str, Any], evaluated_on: str) -> Table:
    """Lay out a finished run's figures.

    Args:
        run: the run directory.
        summary: the content of its summary.json.
        evaluated_on: what ``best`` and ``last`` were measured on, ``test`` or ``validation``.
    """
    table = Table(show_header=False, title="done", title_justify="left", title_style="bold")
    for name in ("best", "last"):
        if figures := summary[name]:
            row = f"{figures['top1']:.2%}  (top-5 {figures['top5']:.2%}, epoch {figures['epoch']})"
            table.add_row(f"{name} top-1 on {evaluated_on}", row)
    if test := summary.get("test"):
        table.add_row("top-1 on test, last epoch", f"{test['top1']:.2%}  (top-5 {test['top5']:.2%})")
    table.add_row("params", f"{summary['params']:,}")
    table.add_row("MACs", f"{summary['macs']:,}")
    if summary["images_per_second"]:
        table.add_row("images/s in training", f"{summary['images_per_second']:,}")
    if url := summary.get("wandb_url"):
        table.add_row("W&B", url)
    return table


def evaluation_line(run: RunDirectory, config: Mapping[str, Any]) -> str:
    """Return the command that evaluates a run again.

    Args:
        run: the run directory; named from the current directory where it is below that.
        config: its configuration, whose own classes must be allowed.
    """
    return f"python eval.py {_words(run, {group: config[group] for group in ('model', 'conv', 'data')})}"


def resume_line(run: RunDirectory, config: Mapping[str, Any]) -> str:
    """Return the command that goes on with a run that was stopped.

    Args:
        run: the run directory; named from the current directory where it is below that.
        config: its configuration, whose own classes must be allowed.
    """
    return f"python train.py resume=true {_words(run, config)}"


def _words(run: RunDirectory, config: Mapping[str, Any]) -> str:
    path = run.path.resolve()
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    packages = ",".join(packages_to_allow(config))
    return shlex.join([f"run={shown}", *([f"allow=[{packages}]"] if packages else [])])
