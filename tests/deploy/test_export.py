import json
import shutil

import onnx
import pytest
import torch
from safetensors import safe_open
from torch import nn

from efficientconv.datasets.image_format import ImageFormat
from efficientconv.deploy import export as export_module
from efficientconv.deploy.export import export
from efficientconv.deploy.fold import fold
from efficientconv.deploy.formats import require_installed
from efficientconv.deploy.metadata import Metadata
from efficientconv.deploy.onnx_file import open_session, run_session
from efficientconv.deploy.options import Options
from efficientconv.deploy.trained import TrainedRun
from efficientconv.errors import UserError
from tests.deploy.conftest import tool_config

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users


def options(*overrides: str) -> Options:
    return Options.of(tool_config("export", "run=x", *overrides))


@pytest.fixture(scope="module")
def trained(finished_run):
    return TrainedRun(finished_run)


@pytest.fixture(scope="module")
def expected(trained):
    """Return some test images as the network takes them, and its logits."""
    images = next(iter(trained.data.test_sample(20)))[0].contiguous()
    model, _ = trained.network()
    with torch.no_grad():
        return images, model(images)


def test_onnx(trained, expected, tmp_path):
    images, logits = expected
    done = export(trained, options("images=60"), tmp_path / "new" / "net.onnx")
    session = open_session(done.file)
    assert session.get_inputs()[0].shape == ["batch", *images.shape[1:]]
    for few in (images, images[:1]):
        torch.testing.assert_close(run_session(session, few), logits[: len(few)], rtol=1e-4, atol=1e-4)
    assert [stage.name for stage in done.stages] == ["trained", "folded", "onnx"]
    assert done.images == 60
    assert all(stage.against.same_top1 == 1 for stage in done.stages[1:])
    assert done.stages[1].params < done.stages[0].params
    metadata = Metadata.from_strings({p.key: p.value for p in onnx.load(done.file).metadata_props}, "net.onnx")
    assert metadata.class_names == [str(digit) for digit in range(10)]
    assert metadata.image_format == ImageFormat.of(trained.data)
    assert "Haase" in metadata.citations[0]
    assert metadata.provenance["choices"]["conv"] == "bsconv_u"
    assert metadata.provenance["last"] == trained.summary["last"]
    card = done.card.read_text()
    assert done.card.name == "net.onnx.md"
    for words in ("# net.onnx", "conv=bsconv_u", "Classes, in order: 0, 1, 2", "| folded |", "2 epochs", "Haase"):
        assert words in card


def test_exported_program_with_preprocessing(trained, expected, tmp_path):
    images, logits = expected
    done = export(trained, options("format=torch_export", "preprocessing=true", "images=40"), tmp_path / "net.pt2")
    extra = {"metadata.json": ""}
    module = torch.export.load(done.file, extra_files=extra).module()
    assert json.loads(json.loads(extra["metadata.json"])["has_preprocessing"])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trained.image_format.mean, trained.image_format.std))
    photographs = ((images * std + mean) * 255).round().to(torch.uint8)
    torch.testing.assert_close(module(photographs), logits.softmax(1), rtol=1e-3, atol=1e-4)
    assert module(torch.zeros(1, 3, 77, 50, dtype=torch.uint8)).shape == (1, 10)
    assert "photographs of any size" in done.card.read_text()


def test_safetensors(trained, tmp_path):
    done = export(trained, options("format=safetensors", "images=40"), tmp_path / "net.safetensors")
    folded = fold(trained.network()[0])
    with safe_open(done.file, "pt") as file:
        assert json.loads(file.metadata()["class_names"])[9] == "9"
        assert set(file.keys()) == set(folded.state_dict())
        assert all(torch.equal(file.get_tensor(name), value) for name, value in folded.state_dict().items())


def test_best_weights_say_that_they_were_chosen_on_the_test_set(trained, tmp_path):
    done = export(trained, options("format=safetensors", "images=40"), tmp_path / "net.safetensors", weights="best")
    assert "chosen on this same test set" in done.card.read_text()


MISTAKES = {
    "format=onx": "format=onx: there is no such format; nearest first: onnx, ",
    "quantize=int4": "quantize=int4: must be one of none, int8",
    "batch=0": "batch=0: must be a whole number of at least 1",
    "batch=many": "batch=many: must be a whole number of at least 1",
    "images=0": "images=0: must be a whole number of at least 1",
    "calibration=0": "calibration=0: must be a whole number of at least 1",
    "preprocessing=1": "preprocessing=1: must be true or false",
    "format=safetensors preprocessing=true": "preprocessing=true: format=safetensors holds weights alone",
    "format=torch_export quantize=int8": "quantize=int8: is for format=onnx, and this is format=torch_export",
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.items(), ids=MISTAKES.keys())
def test_mistakes(trained, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        export(trained, options(*words.split()), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_names_the_extra():
    with pytest.raises(UserError, match=r'format=x needs no_such_package, .*: pip install "efficientconv\[export\]"'):
        require_installed("format=x", "json", "no_such_package")


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_unfinished_run(own_run, status):
    own_run.update_summary(status=status)
    with pytest.raises(UserError, match=rf"the status of this run is {status}, .* python train.py resume=true run="):
        TrainedRun(own_run.path)


def test_no_run(tmp_path):
    with pytest.raises(UserError, match=r"is not a run directory: it has no config.yaml"):
        TrainedRun(tmp_path)


def test_a_damaged_checkpoint(own_run):
    file = own_run.checkpoint("last")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last.ckpt is cut off"):
        export(TrainedRun(own_run.path), options("format=safetensors"))
    assert not (own_run.path / "export").exists()


def test_runs_from_before_classes_and_format_were_stored(own_run):
    own_run.write_json("summary.json", {k: v for k, v in own_run.read_summary().items() if k != "image_format"})
    trained = TrainedRun(own_run.path)
    assert trained.image_format == ImageFormat.of(trained.data)
    assert trained.class_names == trained.data.class_names


def test_stored_classes_and_format_need_no_data(own_run):
    own_run.update_summary(class_names=[f"digit {i}" for i in range(10)])
    config = own_run.read_config()
    gone = {"_target_": "efficientconv.datasets.open_image_folder", "root": "/nowhere"}
    own_run.write_config(config | {"data": gone})
    trained = TrainedRun(own_run.path)
    assert trained.class_names[3] == "digit 3"
    assert trained.network()[0](torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    with pytest.raises(UserError, match=r"data.root=/nowhere: has neither"):
        _ = trained.data


def test_a_crop_that_is_no_middle(own_run):
    own_run.update_summary(image_format=None)
    trained = TrainedRun(own_run.path)
    trained.__dict__["data"] = type("Data", (), {"input_size": (3, 32, 40)})()
    with pytest.raises(UserError, match="evaluated on other crops than the middle of a scaled image"):
        _ = trained.image_format


class PerImage(nn.Module):
    """A convolution whose number of groups is that of the images: ONNX has none."""

    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 3, 3, 3))

    def forward(self, x):
        n = x.shape[0]
        y = nn.functional.conv2d(x.reshape(1, -1, *x.shape[2:]), self.weight.repeat(n, 1, 1, 1), groups=n)
        return y.reshape(n, -1, *y.shape[2:]).mean((2, 3))


def test_what_onnx_lacks_is_said_in_one_line_and_nothing_is_written(finished_run, tmp_path, monkeypatch):
    trained = TrainedRun(finished_run)
    monkeypatch.setattr(trained, "network", lambda weights: (PerImage(10).eval(), "last"))
    with pytest.raises(UserError, match=r"format=onnx: this network has no form in ONNX \(.+\); .*batch=1, it may"):
        export(trained, options("images=20"), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_kept(trained, tmp_path, monkeypatch):
    real = export_module.choose_format("safetensors")
    wrong = type(real)(real.suffix, real.write, lambda file, package: lambda images: package.network(images) + 0.1)
    monkeypatch.setattr(export_module, "choose_format", lambda name: wrong)
    with pytest.raises(UserError, match=r"format=safetensors would change the network: .*nothing was written"):
        export(trained, options("format=safetensors", "images=20"), tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_file_goes_into_the_run_directory_by_default(finished_run, tmp_path):
    trained = TrainedRun(shutil.copytree(finished_run, tmp_path / "run"))
    done = export(trained, options("format=safetensors", "images=20"))
    assert done.file == tmp_path / "run" / "export" / "cifar_resnet-bsconv_u.safetensors"
    assert done.card.exists()
