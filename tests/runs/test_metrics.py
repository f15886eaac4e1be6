"""metrics.csv as a run directory writes and reads it."""

import pytest

from efficientconv.runs.directory import RunDirectory


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    run = RunDirectory(tmp_path)
    run.cut_metrics(0)
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "val/top1": 0.5})
    run.cut_metrics(2)
    assert [row["epoch"] for row in run.read_metrics()] == ["1", "2"]
    run.append_metrics({"epoch": 3, "val/top1": 0.6})
    assert run.read_metrics()[-1] == {"epoch": "3", "val/top1": "0.6"}
    run.cut_metrics(0)
    assert run.read_metrics() == []
    run.append_metrics({"epoch": 1, "loss": 2.0})
    assert run.read_metrics() == [{"epoch": "1", "loss": "2.0"}]


DAMAGED = {
    "half a row": ("epoch,lr\r\n1,0.1\r\n2,0.", 1),
    "a row without an end": ("epoch,lr\r\n1,0.1\r\n2,0.1", 1),
    "bytes that are no text": ("epoch,lr\r\n1,0.1\r\n\x00\udcff,\n3,0.1\r\n", 1),
    "a value too many": ("epoch,lr\r\n1,0.1\r\n2,0.1,7\r\n", 1),
    "an epoch again": ("epoch,lr\r\n1,0.1\r\n1,0.1\r\n", 1),
    "no header": ("1,0.1\r\n2,0.1\r\n", 0),
    "empty": ("", 0),
}


@pytest.mark.parametrize(("text", "whole"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_row_is_never_appended_behind_a_damaged_one(tmp_path, caplog, text, whole):
    run = RunDirectory(tmp_path)
    content = text.encode(errors="surrogateescape")
    run.metrics_file.write_bytes(content)
    assert len(run.read_metrics()) == whole
    run.cut_metrics(2)
    run.append_metrics({"epoch": 3, "lr": 0.2})
    assert [row["epoch"] for row in run.read_metrics()] == ["1", "3"][1 - whole :]
    if text:
        assert (tmp_path / "metrics.damaged.csv").read_bytes() == content
        assert f"was damaged behind row {whole} and is cut there" in caplog.text


def test_what_is_damaged_behind_the_checkpoint_is_written_again_anyway(tmp_path):
    run = RunDirectory(tmp_path)
    run.metrics_file.write_text("epoch,lr\n1,0.1\n2,0.")
    run.cut_metrics(1)
    assert run.metrics_file.read_text() == "epoch,lr\n1,0.1\n"
    assert not (tmp_path / "metrics.damaged.csv").exists()
