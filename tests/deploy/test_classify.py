import csv
import shutil

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from efficientconv.datasets.image_format import ImageFormat
from efficientconv.deploy.classify import Classifier, Prediction, classify, find_images, open_classifier, write_csv
from efficientconv.deploy.metadata import Metadata
from efficientconv.errors import UserError
from efficientconv.loaders.decode import read_rgb

pytestmark = pytest.mark.filterwarnings("ignore")  # what silence_lightning keeps from users
BRIGHTNESS = Classifier(["dark", "grey", "bright"], lambda image: torch.tensor([0.2, 0.1, 0.7]))


def onnx_mean(file, batch, has_preprocessing):
    """Write a network whose three logits are the mean red, green and blue."""
    kind, side = (TensorProto.UINT8, "side") if has_preprocessing else (TensorProto.FLOAT, 8)
    nodes = [helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0))
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    takes = helper.make_tensor_value_info("images", kind, [batch, 3, side, side])
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(nodes, "mean", [takes], [gives], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    image_format = ImageFormat(3, 8, 8, True, (0.0,) * 3, (0.1,) * 3)
    metadata = Metadata(["red", "green", "blue"], image_format, has_preprocessing, "none", [], {})
    helper.set_model_props(model, metadata.to_strings())
    onnx.save(model, file)


@pytest.mark.parametrize("batch", ["batch", 3])
def test_an_onnx_file_is_given_what_it_takes(tmp_path, batch):
    image = torch.tensor([255, 0, 51], dtype=torch.uint8).view(3, 1, 1).expand(3, 20, 12)
    onnx_mean(tmp_path / "logits.onnx", batch, has_preprocessing=False)
    found = open_classifier(str(tmp_path / "logits.onnx")).probabilities(image)
    torch.testing.assert_close(found, torch.tensor([10.0, 0.0, 2.0]).softmax(0))
    onnx_mean(tmp_path / "whole.onnx", batch, has_preprocessing=True)
    assert open_classifier(str(tmp_path / "whole.onnx")).probabilities(image.contiguous()).tolist() == [255, 0, 51]


def test_a_run(finished_run, photographs):
    classifier = open_classifier(str(finished_run))
    found = classify(classifier, find_images([str(photographs)]), top=3)
    assert [each.path for each in found] == [str(photographs / name) for name in ("a.png", "b.jpg", "below/c.png")]
    for each in found:
        names, probabilities = zip(*each.classes, strict=True)
        assert set(names) < {str(digit) for digit in range(10)}
        assert list(probabilities) == sorted(probabilities, reverse=True)
        assert 0.3 <= sum(probabilities) <= 1
    assert classifier.probabilities(read_rgb(found[0].path)).sum() == pytest.approx(1)


def test_no_more_classes_than_there_are(photographs):
    (found,) = classify(BRIGHTNESS, [str(photographs / "a.png")], top=5)
    assert found.classes == (("bright", pytest.approx(0.7)), ("dark", pytest.approx(0.2)), ("grey", pytest.approx(0.1)))


def test_csv(tmp_path):
    found = [Prediction("a, b.png", (("cat", 0.75), ("dog", 0.25))), Prediction("c.png", (("dog", 1.0), ("cat", 0.0)))]
    write_csv(found, tmp_path / "found.csv")
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert rows[0] == {
        "image": "a, b.png",
        "class_1": "cat",
        "probability_1": "0.750000",
        "class_2": "dog",
        "probability_2": "0.250000",
    }
    assert rows[1]["class_1"] == "dog"


def test_an_image_that_is_none(photographs, tmp_path):
    folder = shutil.copytree(photographs, tmp_path / "photographs")
    (folder / "b.jpg").write_text("no image")
    paths = find_images([str(folder)])
    with pytest.raises(UserError, match=r"b.jpg: not an image, or a damaged one \(no image format that is known\)"):
        classify(BRIGHTNESS, paths, top=1)
    assert len(classify(BRIGHTNESS, paths, top=1, max_bad_images=1)) == 2


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.png: there is no such image or folder"):
        find_images(["nowhere.png"])
    with pytest.raises(UserError, match=r"this folder has no image \(.jpg, "):
        find_images([str(tmp_path)])


def test_files_that_are_no_network(tmp_path):
    with pytest.raises(UserError, match=r"x.onnx: there is no such file"):
        open_classifier("x.onnx")
    (tmp_path / "x.onnx").write_text("x")
    with pytest.raises(UserError, match=r"x.onnx: not an ONNX file, or a damaged one"):
        open_classifier(str(tmp_path / "x.onnx"))
    onnx_mean(tmp_path / "y.onnx", 1, has_preprocessing=True)
    model = onnx.load(tmp_path / "y.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "y.onnx")
    with pytest.raises(UserError, match=r"y.onnx does not say what its classes are"):
        open_classifier(str(tmp_path / "y.onnx"))
