import copy

import pytest
import torch
from torch import nn

from efficientconv.layers import BDRConv2d, DualConv2d, OctConv2d, PConv2d, SCConv2d, SPConv2d
from efficientconv.layers.border import unfolded_ones
from efficientconv.layers.folded_form import DENSE_WIDTH, FoldedForm, is_narrow
from tests.deploy.conftest import with_random_norms

FORMS = {
    "bdrconv": lambda width, **geometry: BDRConv2d(width, width, 3, padding=1, **geometry),
    "bdrconv_figure": lambda width, **geometry: BDRConv2d(width, width, 3, padding=1, main_kernel_size=3, **geometry),
    "spconv": lambda width, **geometry: SPConv2d(width, width, 3, padding=1, **geometry),
    "octconv": lambda width, **geometry: OctConv2d(width, width, 3, padding=1, **geometry),
    "octconv_first": lambda width, **geometry: OctConv2d(width, width, 3, padding=1, alpha_in=0, **geometry),
}
OTHERS = {"pconv": lambda width: PConv2d(width, width, 3, padding=1)}
GEOMETRIES = ({}, {"stride": 2}, {"padding_mode": "circular"})


def built(name: str, width: int, **geometry) -> nn.Module:
    torch.manual_seed(0)
    return with_random_norms((FORMS | OTHERS)[name](width, **geometry).double()).eval()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("width", [16, 72])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_folded_in_double_precision_to_the_last_digits(name, width, geometry, memory_format):
    layer = built(name, width, **geometry)
    x = torch.randn(2, width, 7, 6, dtype=torch.double).contiguous(memory_format=memory_format)
    torch.testing.assert_close(layer.fold()(x), layer(x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_scconv_in_double_precision_to_the_last_digits():
    torch.manual_seed(0)
    layer, x = SCConv2d(16, 24, 3, padding=1, gate_threshold=0.6).double().eval(), torch.randn(2, 16, 7, 6).double()
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    torch.testing.assert_close(layer.fold()(x), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*FORMS, *OTHERS])
@torch.no_grad()
def test_takes_a_scale_and_a_shift_over_and_another(name):
    form, x = built(name, 16).fold(), torch.randn(2, 16, 7, 6, dtype=torch.double)
    before = copy.deepcopy(form.state_dict())
    scale, shift = torch.randn(2, 16, dtype=torch.double)
    scale[0] = 0  # a channel that pruning switched off
    expected = scale.view(-1, 1, 1) * form(x) + shift.view(-1, 1, 1)
    once = form.rescaled(scale, shift)
    torch.testing.assert_close(once(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(once.rescaled(2 * scale, None)(x), 2 * scale.view(-1, 1, 1) * expected)
    assert all(value.equal(before[key]) for key, value in form.state_dict().items())


@pytest.mark.parametrize("name", FORMS)
def test_inference_mode_first_and_a_gradient_after(name):
    form, x = built(name, 16).fold(), torch.randn(2, 16, 7, 6, dtype=torch.double, requires_grad=True)
    unfolded_ones.cache_clear()
    with torch.inference_mode():
        y = form(x)
    again = form(x)
    assert torch.equal(again, y)
    again.sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", FORMS)
@torch.no_grad()
def test_compiled_and_exported(name):
    form, x = built(name, 16).fold(), torch.randn(2, 16, 8, 8, dtype=torch.double)
    exported = torch.export.export(form, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)).module()
    for run in (exported, torch.compile(form, backend="eager", fullgraph=True)):
        torch.testing.assert_close(run(x), form(x), rtol=1e-12, atol=1e-12)


def test_what_is_wide_keeps_its_groups():
    assert [is_narrow(16, width) for width in (DENSE_WIDTH, DENSE_WIDTH + 1)] == [True, False]
    narrow, wide = (DualConv2d(16, width, 3, padding=1).fold() for width in (DENSE_WIDTH, 2 * DENSE_WIDTH))
    assert type(narrow) is nn.Conv2d
    assert isinstance(wide, DualConv2d)
    assert isinstance(SPConv2d(128, 128, 3, padding=1).fold(), FoldedForm)
    assert isinstance(BDRConv2d(128, 128, 3, padding=1).fold(), BDRConv2d)
