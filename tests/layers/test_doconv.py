import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from efficientconv.layers import DOConv2d


def fill(parameter: torch.Tensor, *values: float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).view(parameter.shape))


def at_rest(**kwargs) -> DOConv2d:
    torch.manual_seed(0)
    layer = DOConv2d(3, 4, 3, padding=1, **kwargs).eval()
    nn.init.normal_(layer.D)
    return layer


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_by_hand():
    layer = DOConv2d(1, 1, (1, 2))
    fill(layer.W, 3, 4)
    fill(layer.D, 1, 0, 2, 0)  # with the identity 2 0 / 2 1, so that the kernel is 6, 6 + 4
    fill(layer.bias, 1)
    assert layer.compose().flatten().tolist() == [6, 10]
    assert layer(torch.tensor([[[[1.0, 2.0]]]])).item() == 6 + 20 + 1


def test_the_identity_repeats_as_often_as_it_fits():
    layer = DOConv2d(1, 1, (1, 2), d_mul=5)
    fill(layer.W, 1, 2, 3, 4, 5)
    assert layer.compose().flatten().tolist() == [1 + 3, 2 + 4]


def test_starts_as_the_convolution_with_kernel_w():
    layer = DOConv2d(4, 8, 3, groups=2)
    assert torch.equal(layer.compose(), layer.W.view(8, 2, 3, 3))


def test_a_1x1_kernel_has_no_d():
    layer = DOConv2d(4, 8, 1, d_mul=7)
    assert layer.D is None
    assert layer.d_mul == 1
    assert list(layer.state_dict()) == ["W", "bias"]
    assert layer.fold().weight.equal(layer.W[..., None])


def test_initialisation():
    torch.manual_seed(0)
    layer = DOConv2d(16, 32, 3, groups=4, d_mul=18)
    bound = 1 / math.sqrt(4 * 18)
    assert 0.99 * bound < layer.W.abs().max() <= bound
    assert 0.8 * bound < layer.bias.abs().max() <= bound
    assert layer.D.eq(0).all()


def test_parameter_count():
    layer = DOConv2d(8, 16, 3)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 1816  # 16·8·9 + 8·9·9 + 16
    assert list(layer.state_dict()) == ["W", "D", "bias"]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_folds_to_one_convolution(groups):
    layer = DOConv2d(4, 8, (3, 5), stride=2, padding=(1, 2), groups=groups, padding_mode="reflect")
    nn.init.normal_(layer.D)
    folded, x = layer.fold(), torch.randn(2, 4, 7, 8)
    assert type(folded) is nn.Conv2d
    assert repr(folded) == repr(nn.Conv2d(4, 8, (3, 5), 2, (1, 2), groups=groups, padding_mode="reflect"))
    torch.testing.assert_close(folded(x), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("d_mul", "message"), [(8, "d_mul=8: must be at least .* 9 would fit"), (9.5, "d_mul=9.5")])
def test_refuses_a_d_mul_that_constrains_the_kernel(d_mul, message):
    with pytest.raises(ValueError, match=message):
        DOConv2d(4, 4, 3, d_mul=d_mul)


def test_shows_its_hyper_parameters():
    assert "bias=False, d_mul=9" in repr(DOConv2d(4, 4, 3, bias=False))


# What may leave the kept kernel stale


def sgd(fused):
    def step(layer):
        layer(X).square().sum().backward()
        with torch.no_grad():
            layer(X)
        torch.optim.SGD(layer.parameters(), lr=0.1, fused=fused).step()
        layer.zero_grad()

    return step


def step_with_gradients_made_by_hand(layer):
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(layer.parameters(), lr=0.1).step()
    layer.zero_grad()


def fused_step_in_training(layer):
    layer.train()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    layer(X).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    layer.eval()


def write_to_data_between_evaluations(layer):
    layer.train()
    layer.W.data.add_(1)
    layer.eval()


def write_to_data_after_a_pass_with_gradients(layer):
    with torch.enable_grad():
        layer(X)
    layer.W.data.add_(1)


def exchange_data(layer):
    layer.W.data = layer.W.data + 1


def exchange_parameter(layer):
    layer.D = nn.Parameter(layer.D.detach() + 1)


def load(assign):
    def change(layer):
        state = {name: value + 1 for name, value in layer.state_dict().items()}
        layer.load_state_dict(state, assign=assign)

    return change


def to_bfloat16_and_back(layer):
    layer.to(torch.bfloat16).to(torch.float32)


def to_channels_last(layer):
    layer.to(memory_format=torch.channels_last)


def reset(layer):
    layer.reset_parameters()


CHANGES = [
    sgd(fused=False),
    sgd(fused=True),
    step_with_gradients_made_by_hand,
    fused_step_in_training,
    write_to_data_between_evaluations,
    write_to_data_after_a_pass_with_gradients,
    exchange_data,
    exchange_parameter,
    load(assign=False),
    load(assign=True),
    to_bfloat16_and_back,
    to_channels_last,
    reset,
]


def fresh(layer: DOConv2d, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, layer.compose(), layer.bias, padding=1)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__qualname__.split(".")[0])
def test_kernel_is_never_stale(change):
    layer = at_rest()
    with torch.no_grad():
        layer(X)
    assert layer._composed is not None
    change(layer)
    with torch.no_grad():
        assert torch.equal(layer(X), fresh(layer, X))


def test_kernel_is_composed_once(monkeypatch):
    layer, compose, calls = at_rest(), DOConv2d.compose, []
    monkeypatch.setattr(DOConv2d, "compose", lambda self: calls.append(1) or compose(self))
    with torch.no_grad():
        for _ in range(3):
            layer(X)
    assert len(calls) == 1
    for _ in range(2):
        layer(X)
    assert len(calls) == 3


def test_nothing_is_kept_in_training():
    layer = at_rest().train()
    with torch.no_grad():
        layer(X)
    assert layer._composed is None


def test_other_dtype_is_composed_anew():
    layer = at_rest()
    with torch.no_grad():
        layer(X)
        y = layer.to(torch.float64)(X.double())
        assert torch.equal(y, fresh(layer, X.double()))


def test_autocast_is_composed_anew():
    layer = at_rest()
    with torch.no_grad():
        exact = layer(X)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = layer(X)
            assert torch.equal(rounded, fresh(layer, X))
        assert rounded.dtype == torch.bfloat16
        assert torch.equal(layer(X), exact)


def test_compiled_code_sees_changed_weights():
    layer = at_rest()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        compiled(X)
        layer(X)
        layer.D.add_(1)
        torch.testing.assert_close(compiled(X), fresh(layer, X))


def test_exported_program_keeps_w_and_d():
    layer = at_rest()
    with torch.no_grad():
        layer(X)
        exported = torch.export.export(layer, (X,))
    assert set(exported.state_dict) == {"W", "D", "bias"}
    module = exported.module()
    with torch.no_grad():
        module.D.add_(1)
        layer.D.add_(1)
        torch.testing.assert_close(module(X), fresh(layer, X))


def test_copies_and_pickles_leave_the_kept_kernel_out():
    layer = at_rest()
    with torch.no_grad():
        layer(X)
    assert copy.deepcopy(layer)._composed is None
    assert pickle.loads(pickle.dumps(layer))._composed is None
    assert set(layer.state_dict()) == {"W", "D", "bias"}


def test_inference_mode_first_and_training_after():
    layer = at_rest()
    with torch.inference_mode():
        y = layer(X)
    with torch.no_grad():
        assert torch.equal(layer(X), y)
    layer(X).sum().backward()
    assert layer.D.grad.abs().sum() > 0


def test_functional_calls_keep_nothing():
    layer = at_rest()
    other = {name: value + 1 for name, value in layer.state_dict().items()}
    with torch.no_grad():
        before = layer(X)
        y = torch.func.functional_call(layer, other, (X,))
        assert torch.equal(layer(X), before)
        layer.load_state_dict(other)
        assert torch.equal(layer(X), y)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_on_a_processor_are_those_of_the_einsum(groups, memory_format, assert_as_drawn):
    torch.manual_seed(0)
    layer = DOConv2d(4, 8, (3, 2), groups=groups, dtype=torch.float64)
    nn.init.normal_(layer.D)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    assert layer(x).is_contiguous(memory_format=memory_format)
    assert_as_drawn(layer, x, 1e-12)


def test_gradients_of_gradients():
    layer = DOConv2d(2, 4, 2, groups=2, dtype=torch.float64)
    nn.init.normal_(layer.D)

    def kernel(w, d):
        return torch.func.functional_call(layer, {"W": w, "D": d}, (torch.ones(1, 2, 2, 3, dtype=torch.float64),))

    inputs = [p.detach().clone().requires_grad_() for p in (layer.W, layer.D)]
    assert gradcheck(kernel, inputs)
    assert gradgradcheck(kernel, inputs)
