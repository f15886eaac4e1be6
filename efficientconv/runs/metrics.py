"""metrics.csv: a row per epoch, appended as it ends; read as far as it is whole, and cut back where a run goes on."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientconv.atomic import replaced_whole

log = logging.getLogger(__name__)


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    """Append one row; the first row sets the columns."""
    is_new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
        stream.flush()
        os.fsync(stream.fileno())  # the checkpoint that counts this epoch must not outlive its row


def whole_rows(file: Path) -> tuple[list[dict[str, str]], bool]:
    """Return the rows before the first that is damaged, and whether these are all; none where there is no file."""
    if not file.is_file():
        return [], True
    with file.open(newline="", errors="replace") as stream:
        header, *lines = stream.read().splitlines(keepends=True) or [""]
    columns = header.strip().split(",")
    rows: list[dict[str, str]] = []
    for line in lines:
        values = line.strip().split(",")  # numbers alone: nothing is quoted
        row = dict(zip(columns, values, strict=False))
        if not (line.endswith("\n") and len(values) == len(columns) and _follows(row, rows)):
            break
        rows.append(row)
    return rows, len(rows) == len(lines)


def cut(file: Path, epochs: int) -> None:
    """Keep the rows of the first ``epochs`` epochs; nothing is done where there is no file.

    Where one of them is damaged, those before it are kept, and the whole file beside them, as ``<name>.damaged.csv``.
    """
    if not file.is_file():
        return
    rows, is_whole = whole_rows(file)
    kept = [row for row in rows if int(row["epoch"]) <= epochs]
    if not is_whole and len(kept) == len(rows) and (not kept or int(kept[-1]["epoch"]) < epochs):
        aside = file.with_suffix(".damaged.csv")
        aside.write_bytes(file.read_bytes())
        log.warning("%s was damaged behind row %d and is cut there; %s has the rest", file, len(kept), aside)
    if not kept:
        file.unlink()
        return
    with replaced_whole(file) as temporary:
        temporary.write_text(_as_csv(kept))


def _follows(row: Mapping[str, str], before: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a row is numbers, of a later epoch than those before it."""
    try:
        _ = [float(value) for value in row.values() if value]
        return int(row["epoch"]) > (int(before[-1]["epoch"]) if before else 0)
    except (KeyError, ValueError):
        return False


def _as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
