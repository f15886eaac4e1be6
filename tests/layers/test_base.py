import pytest
import torch
from torch import nn

from efficientconv.layers import BSConvS, BSConvU, ConvVariant, OrthonormalConv2d, penalized_layers, regularization_loss
from efficientconv.layers.base import rename_prefixes, require_whole, whole_pair


class SideBranch(ConvVariant):
    """As bare a layer with a pooled side branch as can be, to read the messages of the base."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._require_same_padding()
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"in_channels": 0}, "in_channels=0: must be a whole number of at least 1"),
        ({"out_channels": 2.5}, "out_channels=2.5: must be a whole number of at least 1"),
        ({"groups": 0}, "groups=0: must be a whole number of at least 1"),
        ({"groups": 3}, "groups=3: must divide in_channels=8"),
        ({"groups": 4}, "groups=4: must divide out_channels=6"),
        ({"kernel_size": 0}, "kernel_size=0: one or two whole numbers of at least 1 are needed"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\): one or two whole numbers"),
        ({"stride": (1, 0)}, r"stride=\(1, 0\): one or two whole numbers of at least 1"),
        ({"dilation": 1.0}, "dilation=1.0: one or two whole numbers of at least 1"),
        ({"padding": -1}, "padding=-1: one or two whole numbers of at least 0"),
        ({"padding": "full"}, "padding='full': must be 'valid', pixels, or, with stride 1"),
        ({"padding": "same", "stride": 2}, r"padding='same': .* stride=\(2, 2\)"),
        ({"padding": "same", "kernel_size": 2}, r"padding='same': .* dilation·\(kernel_size − 1\)=\(1, 1\)"),
        ({"padding_mode": "mirror"}, "padding_mode='mirror': must be one of zeros, reflect, replicate, circular"),
    ],
)
def test_refuses_what_no_convolution_has(wrong, message):
    with pytest.raises(ValueError, match=message):
        BSConvU(**{"in_channels": 8, "out_channels": 6, "kernel_size": 3, **wrong})


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"kernel_size": 3}, r"padding=\(0, 0\): SideBranch needs 2·padding .* padding=\(1, 1\) would fit"),
        ({"kernel_size": (1, 5), "dilation": 2}, r"padding=\(0, 4\) would fit"),
        ({"kernel_size": 2}, "an odd kernel_size would fit"),
    ],
)
def test_side_branches_tie_the_padding_to_the_kernel(geometry, message):
    with pytest.raises(ValueError, match=message):
        SideBranch(4, 4, **geometry)


def test_even_kernels_with_even_margins_have_side_branches():
    assert SideBranch(4, 4, 2, padding=1, dilation=2).padding == (1, 1)


@pytest.mark.parametrize(
    ("padding", "pixels"), [("valid", (0, 0)), ("same", (2, 4)), ([1, 2], (1, 2)), (3, (3, 3)), ((0, 1), (0, 1))]
)
def test_padding_becomes_pixels(padding, pixels):
    layer = BSConvU(2, 2, (3, 5), padding=padding, dilation=2)
    assert layer.padding == pixels
    conv = nn.Conv2d(2, 2, (3, 5), padding=tuple(padding) if isinstance(padding, list) else padding, dilation=2)
    x = torch.randn(1, 2, 12, 12)
    assert layer(x).shape == conv(x).shape


def test_a_layer_with_batch_norms_must_say_how_they_fold():
    with pytest.raises(NotImplementedError, match="SideBranch has batch norms and does not say how they fold"):
        SideBranch(4, 4, 1).fold()


def test_the_base_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        ConvVariant(4, 4, 1)


def test_extra_repr_shows_the_geometry():
    layer = SideBranch(4, 6, 3, stride=2, padding=1, groups=2, padding_mode="reflect")
    expected = "4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=2, padding_mode=reflect"
    assert layer.extra_repr() == expected


def test_losses_of_a_model_are_summed():
    a, b = BSConvS(8, 8, 3), OrthonormalConv2d(4, 2, 1)
    model = nn.Sequential(a, nn.Sequential(b), BSConvU(2, 2, 3), nn.Conv2d(2, 2, 1))
    assert penalized_layers(model) == [a, b]
    torch.testing.assert_close(regularization_loss(model), a.regularization_loss() + b.regularization_loss())


def test_loss_of_a_model_without_penalties_is_zero():
    model = nn.Sequential(BSConvU(2, 2, 3), nn.Conv2d(2, 2, 1))
    assert penalized_layers(model) == []
    assert regularization_loss(model) == 0


def test_rename_prefixes():
    state = {"fc.0.weight": torch.zeros(1), "fcc.weight": torch.ones(1), "bias": torch.ones(2)}
    assert list(rename_prefixes(state, {"fc.0": "gate"})) == ["gate.weight", "fcc.weight", "bias"]


def test_whole_numbers():
    assert whole_pair("kernel_size", [3, 5]) == (3, 5)
    with pytest.raises(ValueError, match=r"reduction=0\.5: must be a whole number of at least 1"):
        require_whole("reduction", 0.5)
