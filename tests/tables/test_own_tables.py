"""A table of the user's own, in a folder that --config-dir names, with a convolution from there."""

import json

import yaml

TABLE = {
    "paper": "Mine",
    "title": "T",
    "source": "S",
    "classes": 10,
    "input_size": [3, 32, 32],
    "columns": {"params": {"unit": "k"}},
    "rows": [{"row": "mine", "overrides": ["model=lenet_doconv_sample", "conv=mine"], "params": 4.2}],
}


def test_it_is_listed_and_counted(command, tmp_path):
    folder = tmp_path / "conf's"
    (folder / "conv").mkdir(parents=True)
    (folder / "table" / "mine").mkdir(parents=True)
    (folder / "conv" / "mine.yaml").write_text("defaults: [standard]\n")
    (folder / "table" / "mine" / "small.yaml").write_text(yaml.safe_dump(TABLE))
    told = command("tables", "mine/small", "--config-dir", str(folder), "format=json")
    assert (told.status, told.stderr) == (0, "")
    (row,) = json.loads(told.stdout)
    assert (row["paper"], row["row"], row["agrees"]) == ("mine", "mine", True)
    listed = command("tables", "--config-dir", str(folder), "format=csv")
    assert "mine/small" in listed.stdout
    assert "bsconv/cifar100_resnet" in listed.stdout
    assert "mine/small" not in command("tables", "format=csv").stdout


def test_a_mistake_in_it_names_its_file(command, tmp_path):
    file = tmp_path / "conf" / "table" / "mine" / "small.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(TABLE))  # whose convolution is not there
    told = command("tables", "mine", "--config-dir", "conf")
    assert told.status == 1
    reason = "['model=lenet_doconv_sample', 'conv=mine'] does not compose: conv=mine: there is no such conv; nearest"
    assert told.stderr.startswith(f"{file}: row 'mine': {reason}")
