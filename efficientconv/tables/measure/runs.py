"""The measured figures of a row: from run directories, and from CSV files in which runs are kept."""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from efficientconv.errors import UserError
from efficientconv.runs.directory import RunDirectory
from efficientconv.tables.count.configurations import composed_network
from efficientconv.tables.load.table import Row, Table
from efficientconv.tables.measure.differences import differences
from efficientconv.tables.measure.sweep import trainings


@dataclass(frozen=True)
class Run:
    """One finished training of one row.

    Attributes:
        table: name of the table.
        row: name of the row.
        seed: of the run.
        top1: per cent, after the last epoch, on the images that the table reports on.
        top5: likewise.
        epochs: number of epochs.
        differs: the differences from the published training, such as ``data=digits; trainer.max_epochs=1``, or nothing.
        params: number of parameters.
        macs: multiply-adds for one image.
        device: name of the hardware.
        python: version.
        torch: version.
        efficientconv: version.
        commit: of this project's repository; empty where the run did not use a checkout.
        started: date and time, in ISO 8601.

    Raises:
        ValueError: ``started`` is no date and time.
    """

    table: str
    row: str
    seed: int
    top1: float
    top5: float
    epochs: int
    differs: str
    params: int
    macs: int
    device: str
    python: str
    torch: str
    efficientconv: str
    commit: str
    started: str

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.started)


def find_runs(places: Iterable[str | Path]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Find every finished run below some directories: its configuration and its summary.

    A run that is damaged or has no scores is named on standard error and left out, so that it does not hide the others.
    """
    for place in places:
        for file in sorted(Path(place).rglob("summary.json")):
            run = RunDirectory(file.parent)
            try:
                summary = run.read_summary() if run.config_file.is_file() else {}
                if summary.get("status") == "done":
                    _require_scores(summary, file)
                    yield run.read_config(), summary
            except (UserError, ValueError) as error:
                print(f"left out: {error}", file=sys.stderr)


def _require_scores(summary: Mapping[str, Any], file: Path) -> None:
    if not {"top1", "top5"} <= _scores(summary).keys():
        raise UserError(f"{file}: has no top1 and top5, as after a training with trainer.limit_val_batches=0")


def _scores(summary: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the scores for a table: those of the separate test set, if there is one, else those of the last epoch."""
    return summary.get("test") or summary.get("last") or {}


def read_csv_files(places: Iterable[str | Path]) -> list[Run]:
    """Read the runs in CSV files: in named files, and in those files of named directories that have the columns.

    Raises:
        UserError: a named file has other columns, or a value has the wrong type.
    """
    return [run for place in map(Path, places) for file in _csv_files(place) for run in _read_csv_file(file, place)]


def _csv_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.glob("*.csv"))


def _read_csv_file(file: Path, place: Path) -> list[Run]:
    names = [field.name for field in fields(Run)]
    with file.open(newline="", errors="replace") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames == names:
            return [_run_of_line(file, number, line) for number, line in enumerate(reader, 2)]
    if file == place:
        raise UserError(f"{file}: no file of runs, as save=<file> writes it: the columns are not {', '.join(names)}")
    return []


def _run_of_line(file: Path, number: int, line: Mapping[str, str]) -> Run:
    kinds = {"int": int, "float": float, "str": str}
    try:
        return Run(**{field.name: kinds[str(field.type)](line[field.name]) for field in fields(Run)})
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}, line {number}: {error}") from error


def write_csv_file(file: str | Path, runs: Iterable[Run]) -> None:
    """Write runs to a CSV file, one line each, sorted by table, row and seed."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with Path(file).open("w", newline="") as lines:
        writer = csv.DictWriter(lines, [field.name for field in fields(Run)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            asdict(run) for run in sorted(runs, key=lambda run: (run.table, run.row, run.seed, run.started))
        )


class Measurements:
    """The runs in some directories and files, by the row that they measure.

    Args:
        places: directories with run directories anywhere below them, or CSV files directly in them; or CSV files.
        overrides: of the wanted trainings, where these differ from the tables' own.
    """

    def __init__(self, places: Sequence[str | Path], overrides: Sequence[str] = ()) -> None:
        self._overrides = overrides
        self._kept = read_csv_files(places)
        self._by_network: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
        for config, summary in find_runs(places):
            self._by_network[_key(config)].append((config, summary))

    def runs(self, table: Table, row: Row) -> list[Run]:
        """List the runs of a row: those of its network and number of classes, whatever the training.

        Of several runs with the same seed and the same training only the latest counts: they are not independent.
        """
        if row.external:
            return []
        runs = [run for run in self._kept if (run.table, run.row) == (table.name, row.name)]
        for config, summary in self._of_network(table, row):
            if summary.get("num_classes") == table.classes:
                runs.append(_run(table, row, config, summary))
        return list({(run.seed, run.differs): run for run in sorted(runs, key=_start)}.values())

    def other_classes(self, table: Table, row: Row) -> list[int]:
        """List the numbers of classes, other than the table's, of the runs of the wanted trainings."""
        others = [
            (_run(table, row, config, summary), summary["num_classes"])
            for config, summary in self._of_network(table, row)
            if summary.get("num_classes", table.classes) != table.classes
        ]
        wanted = self._wanted(table.of(row)) if others else set()
        return sorted({classes for run, classes in others if (str(run.seed), run.differs) in wanted})

    def lacks(self, table: Table, row: Row) -> bool:
        """Tell whether one of the wanted trainings of a row has no run; runs of other trainings do not count."""
        if row.external:
            return False
        present = {(str(run.seed), run.differs) for run in self.runs(table, row)}
        return not present.issuperset(self._wanted(table.of(row)))

    def measured(self, table: Table, row: Row) -> dict[str, Any]:
        """Summarise the runs of one training of a row: the wanted one, else the one with the fewest differences.

        Returns:
            ``top1`` and ``top5`` in per cent (means), ``top1_std`` (of more than one run), ``n``, ``seeds``,
            ``differs`` (the differences from the published training) and ``devices``; an empty dictionary without runs.
        """
        ways: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs(table, row):
            ways[run.differs].append(run)
        if not ways:
            return {}
        wanted = {differs for _, differs in self._wanted(table.of(row))}
        differs, runs = min(ways.items(), key=lambda way: (way[0] not in wanted, len(_parted(way[0])), -len(way[1])))
        top1 = [run.top1 for run in runs]
        return {
            "top1": round(statistics.fmean(top1), 3),
            "top1_std": round(statistics.stdev(top1), 3) if len(top1) > 1 else None,
            "top5": round(statistics.fmean(run.top5 for run in runs), 3),
            "n": len(runs),
            "seeds": sorted(run.seed for run in runs),
            "differs": _parted(differs),
            "devices": sorted({run.device for run in runs}),
        }

    def _of_network(self, table: Table, row: Row) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        if row.external or not self._by_network:
            return []
        return self._by_network.get(_key(composed_network(table, row)), [])

    def _wanted(self, table: Table) -> set[tuple[str, str]]:
        """Return the seed and the ``differs`` of each training."""
        from efficientconv.training.ddp import device_count  # imports torch, which the list of tables does without

        wanted = trainings(table, self._overrides)
        devices = ((seed, training, device_count(training["trainer"])) for seed, training in wanted)
        return {(seed, "; ".join(differences(table, training, count))) for seed, training, count in devices}


def _key(network: Mapping[str, Any]) -> str:
    conv = {key: value for key, value in network["conv"].items() if key != "initialize_from_replaced"}
    return json.dumps([network["model"], conv], sort_keys=True)


def _start(run: Run) -> datetime:
    return datetime.fromisoformat(run.started).astimezone()


def _parted(differs: str) -> list[str]:
    return differs.split("; ") if differs else []


def _run(table: Table, row: Row, config: Mapping[str, Any], summary: Mapping[str, Any]) -> Run:
    scores, versions = _scores(summary), summary["versions"]
    return Run(
        table=table.name,
        row=row.name,
        seed=summary["seed"],
        top1=round(100 * scores["top1"], 3),
        top5=round(100 * scores["top5"], 3),
        epochs=summary["epochs"],
        differs="; ".join(differences(table.of(row), config, summary.get("devices", 1))),
        params=summary["params"],
        macs=summary["macs"],
        device=summary["device"],
        python=versions["python"],
        torch=versions["torch"],
        efficientconv=versions.get("efficientconv", ""),
        commit=summary["commit"] or "",
        started=summary["started"],
    )
