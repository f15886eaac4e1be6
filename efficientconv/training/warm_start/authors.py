"""Checkpoints of the five papers' own code, read into our networks: their names of weights, translated to ours.

A layer translates the part of a state under its own name (``ConvVariant.from_authors``); what is translated here are
the names of the networks around the layers.

======================================================  =============================================================
the authors' network                                    here
======================================================  =============================================================
BSConv: ``cifar_resnet20_bsconvu``, any depth           ``model=resnet20 conv=bsconv_u``
BSConv: ``cifar_preresnet20_bsconvs_p1d4``, any depth   ``model=preresnet20 conv=bsconv_s``
BSConv: ``cifar_wrn28_3_bsconvs_p1d4``                  ``model=wrn28 model.width=3 conv=bsconv_s``
BSConv: ``mobilenetv1_w1_bsconvu``                      ``model=mobilenetv1 conv=bsconv_u``
BSConv: ``cifar_mobilenetv2_w1d2_bsconvs_p1d6``         ``model=mobilenetv2 model.stem=cifar model.width=0.5``
BSConv: ``mobilenetv3_small_w1``, ``…_large_w1``        ``model=mobilenetv3_small``, ``model=mobilenetv3_large``
SPConv: ``resnet50`` and its other depths               ``model=resnet50 conv=spconv``
SPConv: ``resnext50_32x4d``, whose groups it ignores    ``model=resnet50 +model.width_per_group=128 conv=spconv``
SlimConv: ``resnet50`` and the deeper ones              ``model=resnet50 conv=slimconv``
SlimConv: ``resnext50_32x4d``                           ``model=resnext50_32x4d conv=slimconv
                                                        conv.layer.second_path_groups=32``
DO-Conv: the sample, before and after its fusion        ``model=lenet_doconv_sample`` with ``conv=doconv``, ``standard``
======================================================  =============================================================

BSConv's networks without a variant in their names, and SlimConv's ``resnet18`` and ``resnet34``, are those here with
``conv=standard``. BDRConv's code and, but for the sample, DO-Conv's define layers alone: a network of torchvision's
names that has these in it is ``conv=bdrconv`` or ``conv=doconv`` in the one here.

Not here: BSConv's ImageNet ResNets. ``resnet18`` and its other depths have a batch norm on the image, which
torchvision's class lacks; in ``preresnet18`` and its other depths that norm has a scale and a shift, which ours lacks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from efficientconv.backbones.staged import StagedNet
from efficientconv.layers import ConvVariant
from efficientconv.layers.base import rename_prefixes

State = Mapping[str, Tensor]

_UNIT = re.compile(r"backbone\.stage(\d+)\.unit(\d+)\.")
_AROUND_UNITS = {
    "data_bn": "data_norm",
    "init_unit.conv.conv": "stem.conv",
    "init_unit.conv.bn": "stem.norm",
    "init_conv.conv": "stem.conv",
    "init_conv.bn": "stem.norm",
    "final_conv.conv": "neck.conv",
    "final_conv.bn": "neck.norm",
    "final_conv1.conv": "neck.conv",
    "final_conv1.bn": "neck.norm",
    "final_se.conv1": "neck.squeeze_excite.squeeze",
    "final_se.conv2": "neck.squeeze_excite.excite",
    "final_activation.bn": "neck.norm",
    "classifier.conv": "classifier",
}
_RESIDUAL = {
    "conv1.bn": "conv1.norm",
    "conv2.bn": "conv2.norm",
    "projection.conv": "shortcut.conv",
    "projection.bn": "shortcut.norm",
}
_PREACTIVATION = {
    "bn": "preactivation.norm",
    "conv1.conv": "branch.conv1.conv",
    "conv1.bn": "branch.conv1.norm",
    "conv2.conv": "branch.conv2",
    "projection.conv": "projection",
}
_SEPARABLE = {  # the last two: BSConv-U in a unit's place, and the norm behind it
    "conv_pw.bn": "norm",
    "conv_dw": "conv.conv_dw",
    "conv_pw": "conv.conv_pw",
    "0": "conv",
    "1": "norm",
}
_INVERTED = {
    "conv1.conv": "expansion.conv",
    "conv1.bn": "expansion.norm",
    "conv2.conv": "depthwise.conv",
    "conv2.bn": "depthwise.norm",
    "se_unit.conv1": "squeeze_excite.squeeze",
    "se_unit.conv2": "squeeze_excite.excite",
    "conv3.conv": "projection.conv",
    "conv3.bn": "projection.norm",
}
_DOCONV_SAMPLE = {"0": "conv1", "2": "conv2", "4": "conv3"}


def in_our_names(model: nn.Module, state: State) -> dict[str, Tensor]:
    """Translate a state that was saved by the authors' code of a paper; any other comes back as it is.

    Args:
        model: the network that is to take it: what a name means depends on the network and the layers in it.
        state: keys without the prefix of a wrapper.
    """
    if state.keys() <= model.state_dict().keys():
        return dict(state)
    parts = {key.partition(".")[0] for key in state}
    first = dict(model.named_children()).get("conv1")
    if isinstance(model, StagedNet) and parts == {"backbone", "classifier"}:
        state = _of_bsconv(state)
    elif isinstance(first, (nn.Conv2d, ConvVariant)) and parts == _DOCONV_SAMPLE.keys():
        state = _of_doconv_sample(state, first.in_channels)
    return _layer_by_layer(model, state)


def _of_bsconv(state: State) -> dict[str, Tensor]:
    """Rename what one of BSConv's networks holds; its layers keep their own names."""
    names = _names_in_units(state)
    places = _places(state, is_flat=names is _INVERTED)
    units: dict[str, dict[str, Tensor]] = {}
    around: dict[str, Tensor] = {}
    for key, value in state.items():
        found = _UNIT.match(key)
        if found:
            units.setdefault(places[found[0]], {})[key[found.end() :]] = value
        else:
            around[key.removeprefix("backbone.")] = value
    stem = _preactivated_stem(state) if names is _PREACTIVATION else {}
    ours = rename_prefixes(around, {**_AROUND_UNITS, **stem})
    for place, unit in units.items():
        ours.update({place + key: value for key, value in rename_prefixes(unit, names).items()})
    return ours


def _names_in_units(state: State) -> dict[str, str]:
    """Tell a network's units by what only they have; return the names in them, theirs → ours."""
    if "backbone.final_activation.bn.weight" in state:
        return _PREACTIVATION
    if any(key.startswith("backbone.init_unit.") for key in state):
        return _RESIDUAL
    return _INVERTED if any(".conv3." in key for key in state) else _SEPARABLE


def _places(state: State, is_flat: bool) -> dict[str, str]:
    """Map the beginnings of keys in units to ours: from 0, not 1, and where it is flat, counted through all stages."""
    found = {match[0]: (int(match[1]), int(match[2])) for key in state if (match := _UNIT.match(key))}
    if is_flat:
        return {unit: f"stages.{index}." for index, unit in enumerate(sorted(found, key=found.__getitem__))}
    return {unit: f"stages.{stage - 1}.{index - 1}." for unit, (stage, index) in found.items()}


def _preactivated_stem(state: State) -> dict[str, str]:
    """For small images it is a convolution alone, for large ones there are a norm and a pool behind it."""
    if "backbone.init_unit.conv.bn.weight" in state:
        return {"init_unit.conv.conv": "stem.conv.conv", "init_unit.conv.bn": "stem.conv.norm"}
    return {"init_unit.conv.conv": "stem"}


def _of_doconv_sample(state: State, channels: int) -> dict[str, Tensor]:
    """Rename the convolutions; the first sees one grey channel in the sample, where here an image has three equal ones.

    Each of the three gets a third of the weight. D multiplies the weight of its own channel and is the same for each.
    """
    ours = rename_prefixes(state, _DOCONV_SAMPLE)
    for name in ours.keys() & {"conv1.weight", "conv1.W"}:
        if ours[name].shape[1] == 1:
            ours[name] = ours[name].repeat_interleave(channels, 1) / channels
    for name in ours.keys() & {"conv1.D", "conv1.d_diag"}:
        if len(ours[name]) == 1:
            ours[name] = ours[name].repeat_interleave(channels, 0)
    return ours


def _layer_by_layer(model: nn.Module, state: State) -> dict[str, Tensor]:
    """Let each layer translate what stands under its name."""
    modules = model.named_modules(remove_duplicate=False)
    layers = {name: module for name, module in modules if isinstance(module, (ConvVariant, nn.Conv2d))}
    ours: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        owner = _owner(key, layers)
        if owner is None:
            ours[key] = value
        else:
            parts.setdefault(owner, {})[key[len(owner) + 1 :]] = value
    for owner, part in parts.items():
        ours.update({f"{owner}.{key}": value for key, value in _of_layer(layers[owner], part).items()})
    return ours


def _owner(key: str, layers: Collection[str]) -> str | None:
    """Return the outermost layer that a key is of."""
    words = key.split(".")
    names = (".".join(words[:depth]) for depth in range(1, len(words)))
    return next((name for name in names if name in layers), None)


def _of_layer(layer: nn.Module, part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate a layer's part of a state; return it as it is where it is another layer's."""
    own = layer.state_dict().keys()
    if part.keys() <= own:
        return part
    ours = layer.from_authors(part) if isinstance(layer, ConvVariant) else _of_doconv_1x1(part)
    return ours if ours and ours.keys() <= own else part


def _of_doconv_1x1(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weight of a 1×1 DO-Conv, (o, i/g, 1), the shape of a convolution's: here such a layer is one."""
    return {("weight" if key == "W" else key): value[..., None] if key == "W" else value for key, value in part.items()}
