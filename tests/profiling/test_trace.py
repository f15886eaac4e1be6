import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from efficientconv.layers import DOConv2d
from efficientconv.profiling.trace import meta_copy, trace


def products(recorded):
    return [(op.name, op.module, op.macs) for op in recorded.operators if op.macs]


def test_operators_know_their_module_and_their_multiply_adds():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Flatten(), nn.Linear(8 * 4 * 5, 7)))
    # 4·5 pixels of 8 channels from 9·3 inputs each; 160 · 7
    assert products(trace(model, (3, 6, 7))) == [("convolution", "0", 20 * 8 * 27), ("addmm", "1.1", 160 * 7)]


def test_functions_are_seen_in_the_module_that_calls_them():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 1, 1))

        def forward(self, x):
            return F.conv2d(x, self.weight)

    assert products(trace(nn.Sequential(Functional()), (3, 5, 5))) == [("convolution", "0", 25 * 12)]


def test_a_bias_is_seen():
    def biases(model):
        return [op.has_bias for op in trace(model, (4, 1, 1)).operators if op.macs]

    assert biases(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, bias=False))) == [True, False]
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    assert biases(linear) == [True, False]


def test_composing_a_kernel_has_nothing_to_do_with_the_image():
    recorded = trace(DOConv2d(4, 8, 3, padding=1), (4, 6, 6))
    assert [(op.name, op.of_image) for op in recorded.operators if op.macs] == [("bmm", False), ("convolution", True)]


def test_writing_a_part_of_the_image_into_zeros_keeps_the_trail():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = torch.zeros(1, 4, 5, 5)
            y[:, :3] = x
            return self.conv(y)

    assert [op.of_image for op in trace(Writes(), (3, 5, 5)).operators if op.macs] == [True]


def test_calls_of_childless_modules_with_shapes():
    model = nn.Sequential(nn.Sequential(nn.MaxPool2d(2)), nn.ReLU())
    calls = trace(model, (3, 8, 6)).calls
    assert [(call.name, type(call.module).__name__, call.input, call.output) for call in calls] == [
        ("0.0", "MaxPool2d", (1, 3, 8, 6), (1, 3, 4, 3)),
        ("1", "ReLU", (1, 3, 4, 3), (1, 3, 4, 3)),
    ]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_model_is_left_alone(device):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), DOConv2d(4, 4, 3)).to(device)
    model[1].eval()  # frozen
    state = copy.deepcopy(model.state_dict())
    attributes = copy.deepcopy([sorted(vars(module)) for module in model.modules()])
    trace(model, (3, 9, 9))
    if device == "cpu":
        assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    assert [module.training for module in model] == [True, False, True]
    assert all(p.device.type == device for p in model.parameters())


def test_another_model_inside_is_part_of_the_module_that_calls_it():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.held = [nn.Conv2d(3, 2, 1)]  # in a plain list: no submodule

        def forward(self, x):
            return self.held[0](x)

    recorded = trace(nn.Sequential(Holder(), nn.ReLU()), (3, 4, 4))
    assert products(recorded) == [("convolution", "0", 16 * 6)]
    assert [call.name for call in recorded.calls] == ["0", "1"]


def test_a_model_that_fails_leaves_nothing_behind():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)).to("meta")
    with pytest.raises(ValueError, match="does not run on an image of 3×9×9"):
        trace(model, (3, 9, 9))
    assert model.training
    assert products(trace(model[0], (3, 4, 4))) == [("convolution", "", 4 * 4 * 27)]


def test_nothing_is_computed():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.device.type))
    trace(model, (3, 9, 9))
    assert seen == ["meta"]


def test_tensors_outside_parameters_and_buffers_come_along():
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.scale = torch.ones(4, 1, 1)

        def forward(self, x):
            return self.conv(x) * self.scale

    copied = meta_copy(Holds())
    assert copied.scale.is_meta
    assert copied.conv.weight.is_meta
    assert len(products(trace(Holds(), (3, 9, 9)))) == 1


def test_shared_parameters_stay_shared_and_frozen_ones_frozen():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].weight.requires_grad_(False)
    copied = meta_copy(model)
    assert copied[0].weight is copied[1].weight
    assert not copied[0].weight.requires_grad


class NeedsValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x) if x.sum().item() == 0 else x


def test_a_model_that_needs_values_runs_on_real_ones():
    assert len(products(trace(NeedsValues(), (3, 9, 9)))) == 1


def test_an_image_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"input_size=\(5, 9, 9\): Sequential does not run on an image of 5×9×9: .*channels"
    ):
        trace(nn.Sequential(nn.Conv2d(3, 4, 3)), (5, 9, 9))
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match="does not run on an image of 5×9×9"):
        trace(model, (5, 9, 9))


def test_a_half_precision_model_gets_a_half_precision_image():
    recorded = trace(nn.Sequential(nn.Conv2d(3, 4, 1)).half(), (3, 10, 10))
    assert recorded.peak_bytes == 2 * (300 + 400)


def test_peak_memory_is_what_lives_at_one_time():
    # image 3, then 8 channels of 10·10 floats, then 2: the image lives on, the 8 end with the 2
    wide = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 2, 1))
    assert trace(wide, (3, 10, 10)).peak_bytes == 4 * 100 * (3 + 8 + 2)
    in_place = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True))
    assert trace(in_place, (3, 10, 10)).peak_bytes == 4 * 100 * (3 + 8)
    out_of_place = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    assert trace(out_of_place, (3, 10, 10)).peak_bytes == 4 * 100 * (3 + 8 + 8)
