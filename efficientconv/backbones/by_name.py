"""Every classification network of torchvision and timm, by its name there.

Both libraries are imported in the function that needs them: timm takes about four seconds.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from torch import nn

from efficientconv.backbones.checks import check_count
from efficientconv.errors import UserError, nearest_first

log = logging.getLogger(__name__)

RESERVED = (
    "num_classes",
    "aux_logits",
    "weights",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
)
"""Arguments that are not part of the architecture, or that change the network's output."""

WITH_AUX = ("googlenet", "inception_v3")
"""Networks of torchvision that also return auxiliary logits while training, unless told not to."""

TAKEN_BY_BUILDER = {"MobileNetV3": {"reduced_tail", "dilated", "width_mult"}}
"""Arguments that torchvision's functions take for themselves, by the class that they build."""

IMAGENET_CLASSES = 1000

PATIENCE = 5  # seconds to wait for a server


def torchvision_model(
    num_classes: int, *, name: str | None = None, pretrained: bool = False, kwargs: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network that torchvision calls ``name``.

    Args:
        num_classes: number of logits.
        name: one of ``torchvision.models.list_models(module=torchvision.models)``.
        pretrained: start from torchvision's default ImageNet weights, with a new classifier where the number of
            classes differs.
        kwargs: further arguments of the network's constructor.

    Raises:
        UserError: an unknown name or argument, or pretrained weights that are not available.
    """
    from torchvision import models

    check_count("num_classes", num_classes)
    name = _checked_name(name, models.list_models(module=models), "torchvision")
    given = _checked_kwargs(kwargs)
    fixed: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if pretrained:
        fixed = {"weights": "DEFAULT", "num_classes": IMAGENET_CLASSES}
    if name in WITH_AUX:
        fixed["aux_logits"] = False
        given.setdefault("init_weights", not pretrained)  # left out, torchvision warns
    source = models.get_model_weights(name).DEFAULT.url if pretrained else None
    with _weights_from(source), _known_arguments(name, given):
        model = models.get_model(name, **fixed, **given)
    _check_not_swallowed(name, model, given)
    if pretrained and num_classes != IMAGENET_CLASSES:
        _renew_classifier(model, num_classes)
    return model


def timm_model(
    num_classes: int, *, name: str | None = None, pretrained: bool = False, kwargs: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network that timm calls ``name``, with a classifier of ``num_classes``.

    Args:
        num_classes: number of logits.
        name: one of ``timm.list_models()``, with or without the tag of its weights (``resnet50.a1_in1k``).
        pretrained: start from timm's weights, with a new classifier where the number of classes differs.
        kwargs: further arguments of the network's constructor.

    Raises:
        UserError: an unknown name or argument, or pretrained weights that are not available.
    """
    import timm

    check_count("num_classes", num_classes)
    names = timm.list_models() + (timm.list_pretrained() if name and "." in name else [])
    name = _checked_name(name, names, "timm")
    given = _checked_kwargs(kwargs)
    with _weights_from(_timm_source(name) if pretrained else None), _known_arguments(name, given):
        model = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **given)
    known: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    if pretrained and known["num_classes"] != num_classes:
        log.info("the classifier is new: the weights have %s classes, this data %d", known["num_classes"], num_classes)
    return model


def _renew_classifier(model: nn.Module, num_classes: int) -> None:
    """Put a new last layer of ``num_classes`` outputs in place of the one of ImageNet's classes."""
    classifiers = {
        name: module
        for name, module in model.named_modules()
        if IMAGENET_CLASSES in (getattr(module, "out_features", None), getattr(module, "out_channels", None))
    }
    name, old = list(classifiers.items())[-1]
    if isinstance(old, nn.Conv2d):
        new: nn.Module = nn.Conv2d(old.in_channels, num_classes, 1)  # of the SqueezeNets
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    model.set_submodule(name, new)
    log.info(
        "the classifier, %s, is new: the weights have %d classes, this data %d", name, IMAGENET_CLASSES, num_classes
    )


def _checked_name(name: str | None, names: Sequence[str], library: str) -> str:
    if name is None:
        raise UserError(f"model.name is missing: which of the {len(names)} networks of {library}? model.name=resnet50")
    if name not in names:
        near = nearest_first(name, names, most=5)
        raise UserError(f"model.name={name}: {library} has no such network; the nearest of {len(names)}: {near}")
    return name


def _checked_kwargs(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(kwargs or {})
    for name in RESERVED:
        if name in given:
            raise UserError(
                f"model.kwargs.{name}: cannot be set here; the data set num_classes, model.pretrained loads weights, "
                f"and networks return their logits alone"
            )
    return given


@contextmanager
def _known_arguments(name: str, given: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise UserError(f"model.kwargs={dict(given)}: {name} does not take them: {error}") from error


@contextmanager
def _weights_from(source: str | None) -> Iterator[None]:
    """Check once that the server of the weights answers, before a library retries many times; None needs no server."""
    try:
        if source is not None and not _is_fetched(source):
            _require_answer(source)
        yield
    except (OSError, RuntimeError) as error:
        if source is None:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"model.pretrained=true: {reason}; model.pretrained=false starts from random weights"
        ) from error


def _timm_source(name: str) -> str:
    """Return the address of timm's weights of a network: a page of the Hugging Face hub, or a file.

    Raises:
        UserError: timm has no weights of this network.
    """
    from huggingface_hub import constants
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise UserError(f"model.pretrained=true: timm has no weights of {name}; give model.pretrained=false")
    return f"{constants.ENDPOINT}/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)


def _is_fetched(source: str) -> bool:
    """Tell whether these weights are in the cache of torch or of the hub's library."""
    if (Path(torch.hub.get_dir()) / "checkpoints" / source.rpartition("/")[2]).is_file():
        return True
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:  # torchvision does not need it
        return False
    name = source.removeprefix(f"{constants.ENDPOINT}/")
    files = ("model.safetensors", "pytorch_model.bin")
    return name != source and any(isinstance(try_to_load_from_cache(name, file), str) for file in files)


def _require_answer(source: str) -> None:
    """Refuse a server that does not answer at all; the library handles every answer, errors included.

    Raises:
        OSError: the server cannot be reached.
    """
    try:
        urlopen(Request(source, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return
    except OSError as error:
        raise OSError(f"{urlsplit(source).netloc} cannot be reached ({getattr(error, 'reason', error)})") from error


def _check_not_swallowed(name: str, model: nn.Module, given: Mapping[str, Any]) -> None:
    """Refuse unknown arguments that the ``**kwargs`` of ConvNeXt's and MobileNetV3's constructors accept silently."""
    known = {*inspect.signature(type(model).__init__).parameters, *TAKEN_BY_BUILDER.get(type(model).__name__, ())}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UserError(f"model.kwargs={dict(given)}: {name} has no argument {', '.join(unknown)}")
