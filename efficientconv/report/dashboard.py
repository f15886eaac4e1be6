"""``efficientconv dashboard``: a sweep's dashboard in W&B, as code.

W&B's own library writes it; where W&B cannot be reached it is kept as JSON in the sweep's directory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from efficientconv.atomic import replaced_whole
from efficientconv.errors import UserError, first_line
from efficientconv.report.configurations import configurations
from efficientconv.report.runs import GROUPS, Run, find_runs
from efficientconv.sweeps.jobs import find_sweep

log = logging.getLogger(__name__)

FILE = "dashboard.json"
TOP1 = "best/top1"


def run(config: Mapping[str, Any]) -> None:
    """Save a sweep's dashboard, and print where it is.

    Args:
        config: ``configs/dashboard.yaml`` composed.

    Raises:
        UserError: no such sweep, no finished run in it, none that W&B knows, or the library is not installed.
    """
    folder = find_sweep(str(config["sweep"]), Path(config["outputs"]))
    if find_spec("wandb_workspaces") is None:
        raise UserError('efficientconv dashboard: wandb-workspaces is missing; pip install "efficientconv[dashboard]"')
    runs = [run for run in find_runs([folder]).runs if "wandb" in run.config["logger"]]
    if not runs:
        raise UserError(f"{folder}: no run has logger=wandb; with it, W&B has something to show")
    told = runs[0].config["logger"]["wandb"]
    entity = config["entity"] or told["entity"] or os.environ.get("WANDB_ENTITY") or ""
    workspace = build_workspace(runs, folder.resolve().name, entity, config["project"] or told["project"])
    if config["offline"] or not _saved(workspace):
        _write(workspace, folder / FILE)


def build_workspace(runs: Sequence[Run], sweep: str, entity: str, project: str) -> Any:
    """Lay out the dashboard of a sweep: what accuracy costs, how it was reached, what it depends on, the runs.

    Args:
        runs: those of the sweep that W&B knows.
        sweep: its name, W&B's group.
        entity: W&B user or team.
        project: W&B project.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    keys = ["choices.conv", *(key for key in varied(runs) if key != "choices.conv")]
    pinned = [f"summary:{TOP1}", "summary:params", "summary:macs", *map(_column, keys)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"sweep {sweep}",
        sections=[
            ws.Section(name="What accuracy costs", panels=_costs(wr), is_open=True),
            ws.Section(name="How it was reached", panels=_curves(wr), is_open=True),
            ws.Section(name="What it depends on", panels=_dependence(wr, keys), is_open=True),
        ],
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("Group") == (runs[0].config["logger"]["wandb"]["group"] or sweep)),
            order=[expr.Ordering(expr.Summary(TOP1), ascending=False)],
            pinned_columns=pinned,
        ),
    )


def varied(runs: Sequence[Run]) -> list[str]:
    """Return the keys of W&B's configuration by which the runs of a sweep differ, the seed last."""
    columns = [*configurations(runs)[0].options]
    keys = [f"choices.{key}" if key in GROUPS else key for key in columns]
    return keys + (["seed"] if len({run.seed for run in runs}) > 1 else [])


def _column(key: str) -> str:
    """Write a key as a column of W&B's table: below the first name of a configuration are values."""
    first, _, rest = key.partition(".")
    return f"config:{first}.value.{rest}" if rest else f"config:{first}.value"


def _costs(wr: Any) -> list[Any]:
    top1 = wr.SummaryMetric(TOP1)
    return [
        wr.ScatterPlot(title=f"best top-1 against {name}", x=wr.SummaryMetric(key), y=top1, log_x=True)
        for key, name in (("macs", "MACs"), ("params", "parameters"))
    ]


def _curves(wr: Any) -> list[Any]:
    by_conv = {"groupby": wr.Config("choices.conv"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    curves = (("val/top1", "top-1 by convolution"), ("train/loss", "training loss by convolution"))
    return [wr.LinePlot(title=title, x="epoch", y=[metric], **by_conv) for metric, title in curves]


def _dependence(wr: Any, keys: Sequence[str]) -> list[Any]:
    costs = [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(key), log=True) for key in ("params", "macs")]
    settings = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in keys]
    columns = [*settings, *costs, wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(TOP1))]
    whole_width = {"layout": wr.Layout(w=24, h=9)}
    parallel = wr.ParallelCoordinatesPlot(title="settings, costs, best top-1", columns=columns, **whole_width)
    return [parallel, wr.RunComparer(diff_only="split", **whole_width)]


def _saved(workspace: Any) -> bool:
    """Save the dashboard in W&B; where that fails, say why."""
    try:
        workspace.save()
    except Exception as error:  # of W&B's library, or of the network below it
        log.warning("W&B: %s", first_line(error))
        return False
    print(workspace.url)
    return True


def _write(workspace: Any, file: Path) -> None:
    with replaced_whole(file) as temporary:
        temporary.write_text(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")
    print(f"{file}\nthe same line saves it in W&B once there is a connection")
