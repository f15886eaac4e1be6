"""The benches of several convolutions at once, from the configuration to the tables: ``layer`` and ``model``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.text import Text

from efficientconv.atomic import replaced_whole
from efficientconv.bench import picture
from efficientconv.bench.contest import Contest
from efficientconv.bench.forms import FORMS, ONNX_FORMS, TORCH_FORMS, Placement, onnx_problem, require_forms
from efficientconv.bench.layer import Candidates, Pace, Place, measure_place, shapes_of, single_layers
from efficientconv.bench.layout import about, table, warning
from efficientconv.bench.model import INFERENCE, Network, Questions, formats_of, measure_models
from efficientconv.bench.words import REFERENCE
from efficientconv.compose import create_model
from efficientconv.console import console
from efficientconv.errors import UserError, require_whole
from efficientconv.native import compiler_version
from efficientconv.profiling import complexity
from efficientconv.training.memory_format import use_channels_last
from efficientconv.training.provenance import device_name

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"nhwc": torch.channels_last, "nchw": torch.contiguous_format}
SECONDS = 0.02


def require_sensible(config: Mapping[str, Any]) -> None:
    """Refuse what can be refused before anything is measured.

    Raises:
        UserError: names the key and the rule.
    """
    action = config["action"]
    if not config["convs"]:
        raise UserError(f"bench {action}: say which convolutions: conv=bdrconv,spconv for example, or conv=all")
    for key in ("batch", "classes"):
        require_whole(key, config[key], least=1)
    require_list("batches", config["batches"])
    for images in config["batches"]:
        require_whole("batches", images, least=1)
    size = config["input_size"]
    if not isinstance(size, list) or len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size):
        raise UserError(f"input_size={size}: must be channels, height and width, as in input_size=[3,224,224]")
    for key, known in (("dtypes", DTYPES), ("formats", FORMATS)):
        require_list(key, config[key])
        for value in config[key]:
            if value not in known:
                raise UserError(f"{key}={value}: must be {' or '.join(known)}")
    require_list("shapes", config["shapes"])
    forms = forms_of(config)
    require_forms(forms, TORCH_FORMS if action == "layer" else FORMS)
    if size[1] != size[2] and set(forms) & set(ONNX_FORMS):
        raise UserError(f"input_size={size}: forms={','.join(ONNX_FORMS)} need square images; eager and folded do not")
    for key in ("network", "training"):
        if not isinstance(config[key], bool):
            raise UserError(f"{key}={config[key]}: must be true or false")
    picture.require_drawable(config["plot"])


def require_list(key: str, value: Any) -> None:
    """Refuse a value that is no list, or an empty one.

    Raises:
        UserError: names the key.
    """
    if not isinstance(value, list) or not value:
        raise UserError(f"{key}={value}: must be one value or several with commas between")


def forms_of(config: Mapping[str, Any]) -> Any:
    """Return the forms that are asked for, or those that take little time here."""
    if config["forms"] is not None:
        return config["forms"]
    return ["eager", "folded", *(["onnx"] if config["action"] == "model" and not onnx_problem("onnx") else [])]


def _not_installed(config: Mapping[str, Any]) -> list[str]:
    """Say why ONNX Runtime has no part, where nobody said which forms are wanted."""
    problem = onnx_problem("onnx") if config["forms"] is None else None
    return [problem] if problem else []


def bench_layers(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Measure layers by themselves and in a network, and print a table for each place.

    Raises:
        UserError: an unknown shape, or no convolution can be measured.
    """
    shapes, screen, pace = shapes_of(config["shapes"]), console(), _pace(config)
    screen.print(_about(device, pace))
    contests, left_out = [], []
    for place, candidates in _places(config, shapes, device):
        if len(candidates.modules) > 1 or not candidates.left_out:
            found = measure_place(place, candidates, forms_of(config), pace)
            screen.print(table(found, screen.width), crop=False)
            contests += found
        left_out += candidates.left_out
    return _ended(screen, contests, left_out)


def _places(
    config: Mapping[str, Any], shapes: list[tuple[int, int]], device: torch.device
) -> Iterator[tuple[Place, Candidates]]:
    """Yield every geometry and the network, in every number format and memory format."""
    convs, count = instantiated(config["convs"]), config["batch"]
    networks = build_networks(config, convs) if config["network"] else None
    for dtype in config["dtypes"]:
        for layout in config["formats"]:
            placement, how = Placement(device, DTYPES[dtype], FORMATS[layout]), f"{dtype}, {layout.upper()}"
            for channels, pixels in shapes:
                name = f"3×3 of {channels} channels, {pixels}×{pixels}, {count} images at once, {how}"
                place = Place(name, (channels, pixels, pixels), count, placement, "nn.Conv2d")
                yield place, single_layers(convs, channels)
            if networks is not None:
                name = f"as the convolutions of {network_name(config)}, {count} images at once, {how}"
                place = Place(name, tuple(config["input_size"]), count, placement, REFERENCE)
                yield place, Candidates(networks.modules, [*networks.left_out])


def bench_models(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Measure networks, print a table for each size of batch and one for training, and draw the picture.

    Raises:
        UserError: the network holds none of the convolutions.
    """
    convs, screen, pace = instantiated(config["convs"]), console(), _pace(config)
    candidates = build_networks(config, convs)
    if len(candidates.modules) == 1 and candidates.left_out:
        raise UserError(candidates.left_out[0])
    contests, left_out = [], [*candidates.left_out, *_not_installed(config)]
    screen.print(_about(device, pace))
    for dtype in config["dtypes"]:
        networks = {
            conv: Network(module, _placement(config, conv, dtype, device), convs[conv]["regularization_weight"])
            for conv, module in candidates.modules.items()
        }
        asked = _questions(config, dtype, networks, pace)
        for contest in measure_models(networks, asked, left_out):
            contests.append(contest)
            screen.print(table([contest], screen.width), crop=False)
    _draw(config, contests, device)
    counts = {conv: complexity(module, tuple(config["input_size"])) for conv, module in candidates.modules.items()}
    named = {conv: {"params": each.params, "macs": each.macs} for conv, each in counts.items()}
    return _ended(screen, contests, left_out) | {"networks": named}


def _placement(config: Mapping[str, Any], conv: str, dtype: str, device: torch.device) -> Placement:
    nhwc = use_channels_last(config["channels_last"], config["convs"][conv], device.type == "cuda")
    return Placement(device, DTYPES[dtype], FORMATS["nhwc" if nhwc else "nchw"])


def _questions(config: Mapping[str, Any], dtype: str, networks: Mapping[str, Network], pace: Pace) -> Questions:
    """Gather what is asked of the networks; ONNX Runtime has float32 on the processor only."""
    forms = [form for form in forms_of(config) if dtype == "fp32" or form not in ONNX_FORMS]
    return Questions(
        name=f"{network_name(config)}, {dtype}, {formats_of(list(networks.values()))}",
        size=tuple(config["input_size"]),
        classes=config["classes"],
        forms=tuple(forms) or ("eager",),
        batches=tuple(config["batches"]),
        training=config["batch"] if config["training"] else None,
        pace=pace,
    )


def _draw(config: Mapping[str, Any], contests: list[Contest], device: torch.device) -> None:
    """Draw the time of inference with the fewest images at once, folded where that was measured."""
    if not config["plot"]:
        return
    contest = min((each for each in contests if each.task == INFERENCE), key=lambda each: each.images)
    form = "folded" if "folded" in contest.forms else contest.forms[0]
    title = f"{contest.place}, {form}\n{device_name(device)}, torch {torch.__version__}"
    for name in config["plot"]:
        with replaced_whole(Path(name)) as temporary:
            picture.save(picture.points_of(contest, form), title, temporary, Path(name).suffix)


def instantiated(convs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Build the factories and selections of all convolutions."""
    return {name: instantiate(conv, _convert_="all") for name, conv in convs.items()}


def build_networks(config: Mapping[str, Any], convs: Mapping[str, Mapping[str, Any]]) -> Candidates:
    """Put each convolution into the network; one that it cannot hold is left out, with a line.

    Raises:
        UserError: the network itself cannot be built.
    """
    backbone, size = instantiate(config["model"], _convert_="all"), tuple(config["input_size"])
    networks, left_out = {}, []
    for name, conv in convs.items():
        try:
            networks[name] = create_model(backbone, conv, config["classes"], size)[0]
        except UserError as error:
            if name == REFERENCE:
                raise
            left_out.append(f"model={config['choices']['model']} conv={name}: {error}")
    return Candidates(networks, left_out)


def network_name(config: Mapping[str, Any]) -> str:
    """Return the words that choose the network."""
    own = [word for word in config["overrides"] if word.lstrip("+~").startswith("model.")]
    return " ".join([config["choices"]["model"], *own])


def _pace(config: Mapping[str, Any]) -> Pace:
    return Pace(config["rounds"], SECONDS if config["seconds"] is None else config["seconds"])


def _about(device: torch.device, pace: Pace) -> Text:
    """Say what everything was measured on, and how."""
    native = compiler_version() or "no C++ compiler: every layer operator by operator"
    return Text(f"{device_name(device)}, torch {torch.__version__}, {native}\n{about(pace.rounds, pace.seconds)}\n")


def _ended(screen: Console, contests: list[Contest], left_out: list[str]) -> dict[str, Any]:
    """Print what was left out; return everything as plain values.

    Raises:
        UserError: nothing else than the reference could be measured.
    """
    lines = list(dict.fromkeys(left_out))
    if not contests:
        raise UserError(lines[0])
    for line in lines:
        screen.print(Text(f"left out: {line}"), soft_wrap=True)
    if note := warning(contests):
        screen.print(Text(note))
    return {"contests": [contest.to_dict() for contest in contests], "left_out": lines}
