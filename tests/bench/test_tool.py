import json

import pytest
import torch

from efficientconv.bench.rounds import Rounds
from efficientconv.bench.step import BARE, REAL, Steps
from efficientconv.bench.tool import bench, step_table, threads
from efficientconv.errors import UserError
from tests.bench.conftest import configuration, told

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users

FEW = ["data.images=40", "recipe.batch_size=8", "rounds=1"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "efficientconv bench <what>: say what to measure; one of layer, model, step, loader, compare"),
        (["action=lodaer"], "efficientconv bench lodaer: say what to measure; nearest first: loader"),
        (["action=loader", "data=image_folder"], "^data.root is missing: give it as data.root=<value>$"),
        (["action=step", "rounds=0"], "rounds=0: must be a whole number of at least 1"),
        (["action=step", "steps=1.5"], "steps=1.5: must be a whole number of at least 1"),
        (["action=loader", "seconds=-1"], "seconds=-1: must be a number of at least 0"),
        (["action=step", "threads=0"], "threads=0: must be a whole number of at least 1"),
        (["action=step", "trainer.accelerator=tpu"], "trainer.accelerator=tpu: there is no such device here"),
        (["action=step", "json=/"], "json=/: is a directory; name a file in it"),
        (["action=step", "json=/proc/self/x"], r"json=/proc/self/x: nothing can be written in /proc/self \("),
        (["action=compare"], "efficientconv bench compare: takes two files that json= wrote, none is given"),
        (["action=compare", "files=[a]"], "efficientconv bench compare: takes two files that json= wrote, not 1"),
    ],
)
def test_mistakes(overrides, message):
    with pytest.raises(UserError, match=message):
        bench(configuration(*overrides))


def test_loaders_as_a_table_and_as_json(tmp_path, capsys):
    file = tmp_path / "figures.json"
    bench(configuration("action=loader", *FEW, "seconds=0", f"json={file}"))
    figures = json.loads(file.read_text())
    assert figures["loaders"].keys() == {"memory", "plain DataLoader"}
    assert figures["config"]["data"]["images"] == 40
    assert {"versions", "device", "commit"} <= figures.keys()
    printed = capsys.readouterr().out
    ratio = figures["loaders"]["memory"]["ratio"]
    assert f"│ {ratio:.2f}" in printed
    assert "random, 32 pixels, batches of 8 on cpu" in printed


def test_the_command_line_measures_steps_and_makes_no_directory(command, tmp_path):
    words = ["step", "model=lenet_doconv_sample", *FEW, "steps=2", "trainer.accelerator=cpu", "json=figures.json"]
    done = command("bench", *words)
    assert (done.status, done.stderr) == (0, "")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["loops"].keys() == {REAL, BARE}
    assert f"│ {figures['loops'][REAL]['ratio']:.3f}" in done.stdout
    assert "overhead of train.py's loop" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model"], "^bench model: say which convolutions: conv=bdrconv,spconv for example, or conv=all$"),
        (["model", "conv=ghost", "forms=fold"], "forms=fold: there is no such form here; nearest first: folded"),
        (["layer", "conv=ghost", "forms=onnx"], "forms=onnx: there is no such form here; nearest first: "),
        (["layer", "conv=ghost", "shapes=big"], "shapes=big: must be resnet20 or resnet50"),
        (["layer", "conv=ghost", "dtypes=fp16"], "dtypes=fp16: must be fp32 or bf16"),
        (["layer", "conv=ghost", "formats=[]"], r"formats=\[\]: must be one value or several with commas between"),
        (["layer", "conv=ghost", "network=2"], "network=2: must be true or false"),
        (["model", "conv=ghost", "batches=1,0"], "batches=0: must be a whole number of at least 1"),
        (["model", "conv=ghost", "input_size=[3,8]"], r"input_size=\[3, 8\]: must be channels, height and width"),
        (["model", "conv=ghost", "input_size=[3,8,9]", "forms=onnx"], "forms=onnx,int8 need square images; eager and"),
        (["model", "conv=ghost", "plot=a.gif"], r"plot=a\.gif: must be files that end in \.png, \.svg, \.pdf"),
        (["model", "conv=ghost", "plot=/proc/self/a.png"], r"plot=/proc/self/a\.png: nothing can be written in"),
        (["model", "conv=slimconv"], "^model=cifar_resnet conv=slimconv: SlimConv2d.* can replace none of the"),
        (["layer", "conv=slimconv", "shapes=8x4"], "^slimconv with 8 channels: in_channels=8: must be at least 32"),
    ],
)
def test_mistakes_of_several_convolutions(words, message):
    with pytest.raises(UserError, match=message):
        bench(told(*words))


def test_layers_as_tables_and_as_json(tmp_path, capsys):
    file = tmp_path / "new" / "layers.json"
    bench(told("layer", "conv=bsconv_u,slimconv", "shapes=4x5", f"json={file}"))
    figures = json.loads(file.read_text())
    places = [contest["place"] for contest in figures["contests"]]
    assert places[::2] == places[1::2]
    assert places[0] == "3×3 of 4 channels, 5×5, 2 images at once, fp32, NHWC"
    assert "as the convolutions of cifar_resnet model.depth=8 model.width=0.5, 2 images at once" in places[2]
    assert len(figures["left_out"]) == 2
    assert figures["threads"] == 1
    printed = capsys.readouterr().out
    assert "× nn.Conv2d" in printed
    assert "× standard" in printed
    assert "left out: slimconv with 4 channels: in_channels=4" in printed
    assert f"{figures['device']}, torch" in printed
    bench(told("compare", str(file), str(file)))
    count = sum(len(contest["contenders"]) for contest in figures["contests"])
    assert f"{count} of {count} figures are within their spread." in capsys.readouterr().out


def test_networks_as_tables_json_and_pictures(tmp_path, capsys):
    files = {key: tmp_path / key for key in ("m.json", "p.svg", "p.png")}
    words = ["forms=eager,folded", "batches=1", f"json={files['m.json']}", f"plot={files['p.svg']},{files['p.png']}"]
    bench(told("model", "conv=bsconv_u,slimconv", *words, "threads=1"))
    figures = json.loads(files["m.json"].read_text())
    assert [contest["task"] for contest in figures["contests"]] == ["inference", "training"]
    assert figures["contests"][0]["contenders"].keys() == {
        f"{conv} {form}" for conv in ("standard", "bsconv_u") for form in ("eager", "folded")
    }
    assert figures["networks"]["standard"]["macs"] == figures["contests"][0]["contenders"]["standard eager"]["macs"]
    svg = files["p.svg"].read_text()
    assert "bsconv_u" in svg
    assert "1 image at once, folded" in svg
    assert files["p.png"].stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "left out: model=cifar_resnet conv=slimconv: " in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_without_onnx_runtime_a_line_says_what_would_bring_it(monkeypatch, capsys):
    monkeypatch.setattr("efficientconv.deploy.formats.find_spec", lambda name: None)
    figures = bench(told("model", "conv=bsconv_u", "batches=1", "training=false"))
    assert figures["contests"][0]["contenders"].keys() == {
        f"{conv} {form}" for conv in ("standard", "bsconv_u") for form in ("eager", "folded")
    }
    line = 'left out: forms=onnx needs onnx, which is not installed: pip install "efficientconv[export]"'
    assert line in capsys.readouterr().out


def test_a_number_of_threads_holds_for_the_measurement_alone():
    with threads(2):
        assert torch.get_num_threads() == 2
    with threads(None):
        assert torch.get_num_threads() == 1


def test_steps_that_are_too_few_to_tell(capsys):
    steps = Steps(1, Rounds(BARE, {REAL: [8.0], BARE: [9.0]}), overheads=[-2e6], epoch_ends=[1.0])
    steps.peaks = {REAL: None, BARE: None}
    told_of = step_table(steps).caption
    assert told_of == f"overhead of {REAL}: too short to tell, in 1 round of 1 step; more steps= or rounds= show it"
    assert steps.to_dict()["overhead_microseconds"] == {"median": None, "rounds": [-2e6]}


@pytest.mark.parametrize(
    ("overheads", "caption"),
    [
        ([50.0, 60.0, 70.0], "60 µs a step over 391 steps, of which 2.0 ms once, at the end of the epoch"),
        ([-90.0, 60.0, 70.0], "too short to tell, in 3 rounds of 391 steps; more steps= or rounds= show it"),
        ([50.0, 60.0], "too short to tell, in 2 rounds of 391 steps; more steps= or rounds= show it"),
    ],
)
def test_an_overhead_is_one_where_the_rounds_agree(overheads, caption):
    rates = {REAL: [8.0] * len(overheads), BARE: [9.0] * len(overheads)}
    steps = Steps(391, Rounds(BARE, rates), overheads, epoch_ends=[1.0, 2.0, 3.0], peaks={REAL: None, BARE: 1})
    assert step_table(steps).caption == f"overhead of {REAL}: {caption}"
