"""A small table to break in many ways, and run directories as training leaves them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from efficientconv.tables.count.configurations import composed_network, composed_training
from efficientconv.tables.entries import entries
from efficientconv.tables.load import files as load
from efficientconv.tables.load.files import load_table

SMALL = {
    "paper": "P: someone",
    "title": "T",
    "source": "S",
    "classes": "10",
    "input_size": ["3", "32", "32"],
    "overrides": ["data=digits", "recipe=doconv_sample", "trainer.max_epochs=2", "model=lenet_doconv_sample"],
    "columns": {
        "params": {"unit": "k"},
        "flops": {"unit": "M", "convention": "macs"},
        "top1": {"unit": "%"},
    },
    "rows": [
        {"row": "plain", "overrides": [], "params": "4.2", "flops": "0.281", "top1": "95.10"},
        {"row": "doconv", "overrides": ["conv=doconv"], "params": "7.1", "top1": "95.60"},
    ],
}

OF_ALL_KINDS = [
    {"row": "plain", "overrides": [], "params": "4.2", "flops": "0.281", "top1": "95.10"},
    {
        "row": "wrong | not right",
        "overrides": ["conv=doconv"],
        "params": "9.9",
        "top1": "95.60",
        "erratum": {"params": "7 <k> is right"},
    },
    {"row": "odd", "overrides": [], "flops": "0.4", "erratum": {"flops": "0.3 is"}, "note": "a note"},
    {"row": "pruned", "external": "true", "params": "1.0"},
]
_MEASURED = {"top1_std": None, "top5": 99.0, "n": 1, "seeds": [0], "differs": [], "devices": ["a cpu"]}
MEASURED = {
    "plain": _MEASURED | {"top1": 91.0, "top1_std": 1.414, "n": 2, "seeds": [0, 1]},
    "wrong | not right": _MEASURED | {"top1": 95.0, "differs": ["recipe.mixup=0.2"]},
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a table as ``paper/small`` where tables are looked for, and load it."""
    monkeypatch.setattr(load, "TABLES", tmp_path / "table")

    def write_table(content=SMALL, **changes):
        file = tmp_path / "table" / "paper" / "small.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False, allow_unicode=True))
        return load_table("paper/small", tmp_path / "table")

    return write_table


@pytest.fixture
def small(write):
    return write()


@pytest.fixture
def entries_of():
    """Count a table's rows, of which some were measured."""

    def entries_of_table(table):
        return entries(table, table.rows, SimpleNamespace(measured=lambda table, row: MEASURED.get(row.name, {})))

    return entries_of_table


@pytest.fixture
def section(write, entries_of):
    """Rows that come out, that do not, and that cannot; some were measured."""
    return entries_of(write(rows=OF_ALL_KINDS))


@pytest.fixture
def leave_run(tmp_path):
    """Leave a finished run of a row behind, as training does."""

    def leave(table, row, name, *, seed=0, top1=0.9, summary=(), **changes) -> Path:
        directory = tmp_path / "outputs" / name
        (directory).mkdir(parents=True)
        config = composed_network(table, row) | composed_training(table.of(row)) | {"logger": {}} | changes
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        usual = {
            "status": "done",
            "seed": seed,
            "last": {"top1": top1, "top5": 0.99},
            "epochs": config["trainer"]["max_epochs"],
            "num_classes": table.classes,
            "params": 4218,
            "macs": 281088,
            "device": "a cpu",
            "devices": 1,
            "versions": {"python": "3.12.0", "torch": "2.15.0", "efficientconv": "0.1.0"},
            "commit": "abc",
            "started": f"2026-11-20T10:00:{seed:02d}+00:00",
        }
        (directory / "summary.json").write_text(json.dumps(usual | dict(summary)))
        return directory

    return leave
