"""The forms in which a network runs: as it was trained, compiled, folded, and in ONNX Runtime as float32 or int8."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from efficientconv.datasets.image_format import ImageFormat
from efficientconv.deploy import fold
from efficientconv.deploy.formats import NEEDED, require_installed
from efficientconv.errors import UserError, nearest_first

TORCH_FORMS = ("eager", "compiled", "folded")
ONNX_FORMS = ("onnx", "int8")
FORMS = (*TORCH_FORMS, *ONNX_FORMS)
TRAINED_FORMS = ("eager", "compiled")
"""Those that can be trained."""

CALIBRATION = 4
"""Batches of 8 images for int8: of noise, since a speed does not depend on where the levels lie."""


@dataclass(frozen=True)
class Placement:
    """Where and how numbers are stored.

    Attributes:
        device: of weights and images.
        dtype: of both.
        memory_format: of both.
    """

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    def of(self, module: nn.Module) -> nn.Module:
        """Return a copy of ``module`` that is stored so."""
        return copy.deepcopy(module).to(self.device, self.dtype, memory_format=self.memory_format)  # type: ignore[call-overload]

    def images(self, count: int, size: tuple[int, int, int]) -> Tensor:
        """Draw images (count, *size), the same each time."""
        drawn = torch.randn(count, *size, generator=torch.Generator().manual_seed(0))
        return drawn.to(self.device, self.dtype).contiguous(memory_format=self.memory_format)


OF_ONNX_RUNTIME = Placement(torch.device("cpu"), torch.float32, torch.contiguous_format)
"""What our ONNX files take: in another order ONNX Runtime would have to copy the images first."""


@dataclass(frozen=True)
class Ready:
    """A network that is ready to infer.

    Attributes:
        run: takes a batch of images.
        network: what computes, for its costs to be counted.
        placement: of the images that ``run`` takes.
    """

    run: Callable[[Tensor], object]
    network: nn.Module
    placement: Placement


def require_forms(forms: object, known: tuple[str, ...] = FORMS) -> None:
    """Refuse forms that there are not, and those of ONNX Runtime where it is not installed.

    Raises:
        UserError: names the first, and the remedy.
    """
    if not isinstance(forms, list) or not forms:
        raise UserError(f"forms={forms}: must be some of {', '.join(known)}, with commas between")
    for form in forms:
        if form not in known:
            near = nearest_first(str(form), known)
            raise UserError(f"forms={form}: there is no such form here; nearest first: {near}")
        if form in ONNX_FORMS and (problem := onnx_problem(form)):
            raise UserError(problem)


def onnx_problem(form: str) -> str | None:
    """Return what a form of ONNX Runtime lacks here, and the remedy; None where it lacks nothing."""
    try:
        require_installed(f"forms={form}", *NEEDED["onnx"])
    except UserError as error:
        return str(error)
    return None


def prepare(form: str, model: nn.Module, size: tuple[int, int, int], placement: Placement) -> Ready:
    """Make a network ready to infer in a form.

    Args:
        form: one of ``FORMS``.
        model: the network or layer, float32, on the CPU; it stays as it is.
        size: channels, height and width of the images.
        placement: where the numbers lie; ONNX Runtime has them on the CPU, as float32, in NCHW.

    Raises:
        UserError: the network cannot be folded, compiled or written so.
    """
    if form == "eager":
        network = placement.of(model).eval()
        return Ready(_inferring(network), network, placement)
    if form == "compiled":
        network = placement.of(model).eval()
        return Ready(_inferring(compiled(network)), network, placement)
    folded = fold(model, size)
    if form == "folded":
        network = placement.of(folded)
        return Ready(_inferring(network), network, placement)
    return Ready(_in_onnx_runtime(folded, size, quantize=form == "int8"), folded, OF_ONNX_RUNTIME)


def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Compile a network for batches of one size at a time.

    The compiler keeps what it compiled by the lines of code, and gives up on lines that it has met too often: here
    the same ones belong to many networks, which is no reason to.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
    return torch.compile(module, dynamic=False)


def _inferring(run: Callable[[Tensor], object]) -> Callable[[Tensor], object]:
    def infer(images: Tensor) -> object:
        with torch.inference_mode():
            return run(images)

    return infer


def _in_onnx_runtime(folded: nn.Module, size: tuple[int, int, int], *, quantize: bool) -> Callable[[Tensor], object]:
    from efficientconv.deploy import onnx_file
    from efficientconv.deploy.metadata import Metadata
    from efficientconv.deploy.package import Package

    channels, height, _ = size
    image_format = ImageFormat(channels, height, height, True, (0.0,) * channels, (1.0,) * channels)
    metadata = Metadata([], image_format, False, "int8" if quantize else "none", [], {})
    noise = torch.randn(CALIBRATION, 8, *size, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        onnx_file.write(Package(folded, None, None, metadata), file, noise if quantize else None)
        session = onnx_file.open_session(file)
    takes = session.get_inputs()[0].name

    def run(images: Tensor) -> object:
        return session.run(None, {takes: images.numpy()})

    return run
