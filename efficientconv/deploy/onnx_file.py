"""ONNX: written by torch's exporter, quantised by ONNX Runtime's quantiser, and run by ONNX Runtime.

ONNX Runtime's quantiser rather than torchao's: what it writes is ONNX, which the file has to be, and it needs no other
package than the one that runs the file.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
import torch
from onnx import ModelProto
from onnx.compose import add_prefix, merge_models
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from efficientconv.deploy.package import Package
from efficientconv.errors import UserError, first_line

FLOAT_OPERATORS = ("BatchNormalization",)
"""Never quantised: a scale and a shift a channel, of which eight bits would keep little and save nothing."""


def write(package: Package, file: Path, calibration: Iterable[Tensor] | None = None) -> None:
    """Write a network as ONNX.

    Args:
        package: what to write.
        file: where to.
        calibration: batches of images as the network takes them, by which it is quantised to int8; None leaves it in
            float32.

    Raises:
        UserError: the network does something that ONNX has no operator for.
    """
    model = _exported(package, package.network, package.network_example, package.batch_shape, "images", "logits")
    if calibration is not None:
        model = _quantized(model, calibration)
    if package.preprocessing is not None:
        model = _with_preprocessing(model, package)
    onnx.helper.set_model_props(model, package.metadata.to_strings())
    onnx.checker.check_model(model)
    onnx.save(model, file)


def open_runner(file: Path, package: Package) -> Callable[[Tensor], Tensor]:
    """Return what runs the file on a batch as ``package.whole`` takes it."""
    session = open_session(file)
    return lambda images: run_session(session, images)


def open_session(file: Path) -> onnxruntime.InferenceSession:
    """Load a file for the CPU, with as many threads as torch has.

    Raises:
        UserError: it is not ONNX, or not whole.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between calls others need the cores
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class for each kind of damage
        raise UserError(f"{file}: not an ONNX file, or a damaged one ({first_line(error)})") from error


def run_session(session: onnxruntime.InferenceSession, images: Tensor) -> Tensor:
    """Return the one output for ``images``."""
    (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(output)


def read_metadata(session: onnxruntime.InferenceSession) -> Mapping[str, str]:
    """Return the strings that the file holds beside its network."""
    return session.get_modelmeta().custom_metadata_map


def _exported(
    package: Package, module: nn.Module, example: Tensor, shapes: dict[int, Any], takes: str, gives: str
) -> ModelProto:
    for name in ("onnxscript", "onnx_ir"):  # they say what they leave unoptimised
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about the exporter's own parts
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=[takes],
                output_names=[gives],
                verbose=False,
            )
    except Exception as error:  # the exporter's own class, or whatever its parts meet
        other = "" if package.batch else "; for one image at a time, batch=1, it may have one"
        raise UserError(f"format=onnx: this network has no form in ONNX ({_cause(error)}){other}") from error
    assert program is not None
    return program.model_proto


def _cause(error: BaseException) -> str:
    """Return the first of the errors in its own words, and the operator that was being written."""
    operator = None
    while error.__cause__ is not None:
        error = error.__cause__
        operator = operator or re.search(r"for operator '[\w.]*::(\w+)'", str(error))
    return f"{operator[1]}: {first_line(error)}" if operator else first_line(error)


def _with_preprocessing(model: ModelProto, package: Package) -> ModelProto:
    """Put the preprocessing in front of the network, and the softmax behind it."""
    assert package.preprocessing is not None
    before = _exported(package, package.preprocessing, package.example, package.shapes, "photographs", "pixels")
    scores = torch.zeros(package.batch or 2, len(package.metadata.class_names))
    after = _exported(package, nn.Softmax(1), scores, package.batch_shape, "scores", "probabilities")
    model = merge_models(_apart(before, "before/"), model, io_map=[("pixels", "images")])
    return merge_models(model, _apart(after, "after/"), io_map=[("logits", "scores")])


def _apart(model: ModelProto, prefix: str) -> ModelProto:
    """Rename what is inside, so that nothing has the name of something in the network."""
    return add_prefix(model, prefix, rename_inputs=False, rename_outputs=False)


class _Batches(CalibrationDataReader):
    """Hands calibration images to the quantiser."""

    def __init__(self, batches: Iterable[Tensor], takes: str) -> None:
        self._batches: Iterator[Tensor] = iter(batches)
        self._takes = takes

    def get_next(self) -> dict[str, Any] | None:  # type: ignore[override]
        batch = next(self._batches, None)
        return None if batch is None else {self._takes: batch.numpy()}


def _quantized(model: ModelProto, calibration: Iterable[Tensor]) -> ModelProto:
    """Quantise weights, a scale a channel, and activations, a scale each, to eight bits."""
    with TemporaryDirectory() as folder:
        exported, prepared, quantized = (str(Path(folder, f"{name}.onnx")) for name in ("exported", "prepared", "int8"))
        onnx.save(model, exported)
        quant_pre_process(exported, prepared, skip_symbolic_shape=True)
        kept = [node.name for node in onnx.load(prepared).graph.node if node.op_type in FLOAT_OPERATORS]
        quantize_static(
            prepared,
            quantized,
            _Batches(calibration, model.graph.input[0].name),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
        )
        return onnx.load(quantized)
