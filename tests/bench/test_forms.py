import pytest
import torch
from torch import nn

from efficientconv.bench import forms
from efficientconv.bench.forms import FORMS, Placement, prepare, require_forms
from efficientconv.errors import UserError
from efficientconv.layers import RepVGGConv2d

CPU = torch.device("cpu")
SIZE = (4, 6, 6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nn.Sequential(RepVGGConv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 6), nn.Flatten())
    network(torch.randn(8, *SIZE))  # so that the norms have statistics
    return network.eval()


def outputs(model, form, memory_format=torch.contiguous_format):
    ready = prepare(form, model, SIZE, Placement(CPU, torch.float32, memory_format))
    images = ready.placement.images(3, SIZE)
    found = ready.run(images)
    return images, torch.as_tensor(found[0] if isinstance(found, list) else found)


@pytest.mark.parametrize("form", ["eager", "folded"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_forms_of_torch_compute_the_same(model, form, memory_format):
    images, found = outputs(model, form, memory_format)
    assert images.is_contiguous(memory_format=memory_format)
    with torch.no_grad():
        torch.testing.assert_close(found, model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler and the exporter
@pytest.mark.parametrize(("form", "tolerance"), [("compiled", 1e-5), ("onnx", 1e-5), ("int8", 0.1)])
def test_other_forms_compute_the_same(model, form, tolerance):
    images, found = outputs(model, form, torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(found, model(images), rtol=1e-4, atol=tolerance)


def test_the_folded_form_has_the_folded_layers_and_the_model_stays(model):
    ready = prepare("folded", model, SIZE, Placement(CPU, torch.bfloat16, torch.channels_last))
    assert isinstance(ready.network[0], nn.Conv2d)
    assert ready.network[0].weight.dtype == torch.bfloat16
    assert isinstance(model[0], RepVGGConv2d)


def test_images_are_the_same_in_every_format():
    a, b = (
        Placement(CPU, torch.float32, each).images(2, SIZE) for each in (torch.preserve_format, torch.channels_last)
    )
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], r"forms=\[\]: must be some of eager, compiled, folded, onnx, int8, with commas between"),
        ("eager", "forms=eager: must be some of eager, comp"),
        (["eagre"], "forms=eagre: there is no such form here; nearest first: eager"),
    ],
)
def test_forms_that_there_are_not(asked, message):
    with pytest.raises(UserError, match=message):
        require_forms(asked)


def test_onnx_runtime_is_an_extra(monkeypatch):
    monkeypatch.setattr("efficientconv.deploy.formats.find_spec", lambda name: None)
    for form in forms.ONNX_FORMS:
        with pytest.raises(UserError, match=rf"forms={form} needs onnx, which .*pip install .efficientconv\[export\]"):
            require_forms([form])
    require_forms([form for form in FORMS if form not in forms.ONNX_FORMS])
