"""``evaluate()``: what a run's weights score, from its directory alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from efficientconv.compose import create_model
from efficientconv.config_path import built
from efficientconv.errors import UserError, first_line, require_whole
from efficientconv.runs.directory import RunDirectory
from efficientconv.runs.safe_config import safe_config
from efficientconv.training.checkpoints import read_checkpoint
from efficientconv.training.classifier import Classifier
from efficientconv.training.lightning_patches import silence_lightning
from efficientconv.training.precision import resolve_precision
from efficientconv.training.settings import require_device

log = logging.getLogger(__name__)

WEIGHTS = ("last", "best", "ema")


def evaluate(
    run: RunDirectory,
    trainer: Mapping[str, Any],
    *,
    data: Mapping[str, Any] | None = None,
    weights: str | None = None,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Rebuild a run's network, load its weights, and score them on its data.

    Args:
        run: the run directory; only its model, conv and data are built, and only from trusted targets.
        trainer: device settings, as ``configs/trainer/default.yaml`` names them.
        data: another data configuration, or the keys of the run's to change.
        weights: ``last``, ``best`` or ``ema``; ``None`` is ``ema`` where the run averaged its weights, else ``last``.
        allow: packages whose targets the run's configuration may name.

    Returns:
        ``top1``, ``top5`` (fractions of 1), ``loss``, and what was measured: weights, split, images, notes.

    Raises:
        UserError: not a run directory, an untrusted target, a damaged checkpoint, data of other classes, …
    """
    silence_lightning()
    config = trusted_config(run, allow)
    node, dataset = open_data(run, config, data, allow)
    model, chosen = restore(run, config, dataset.num_classes, dataset.input_size, weights)
    result = score(model, dataset, trainer)
    evaluated_on = run.read_summary().get("evaluated_on", dataset.evaluated_on)
    return result | {"weights": chosen, "split": "test", "data": node, "note": note(chosen, evaluated_on)}


def note(weights: str, evaluated_on: str) -> str | None:
    """Say where a figure is more flattering than it looks."""
    if weights == "best" and evaluated_on == "test":
        return "the best epoch was chosen on this same test set (data.val_split=0), so this figure is optimistic"
    return None


def trusted_config(run: RunDirectory, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Read a run's configuration; what builds its network and its data is trusted in it, see ``safe_config``."""
    config = run.read_config()
    groups = {group: config[group] for group in ("model", "conv", "data")}
    return config | safe_config(groups, allow, str(run.config_file))


def open_data(
    run: RunDirectory, config: Mapping[str, Any], changes: Mapping[str, Any] | None = None, allow: Sequence[str] = ()
) -> tuple[dict[str, Any], Any]:
    """Return the data configuration to use, see ``data_config``, and the data set, ready for its test images.

    Raises:
        UserError: the data cannot be read, or has other classes than the run was trained on.
    """
    node = as_trained(data_config(config, changes), run)
    dataset = instantiate(safe_config(node, allow, "data"), _convert_="all")
    dataset.prepare_test()
    dataset.setup("test")
    require_same_classes(run, dataset.class_names)
    return node, dataset


def restore(
    run: RunDirectory,
    config: Mapping[str, Any],
    num_classes: int,
    input_size: tuple[int, int, int],
    weights: str | None = None,
) -> tuple[nn.Module, str]:
    """Build a run's network with the weights asked for; return it and what they are called.

    Args:
        run: where the weights are.
        config: its trusted configuration.
        num_classes: number of logits.
        input_size: channels, height and width of an image.
        weights: as `evaluate` takes them.

    Raises:
        UserError: there are no such weights, they are damaged, or of another network.
    """
    model = compose_network(config, num_classes, input_size)
    chosen, state = choose_weights(run, weights)
    load_weights(model, state, run)
    return model, chosen


def compose_network(config: Mapping[str, Any], num_classes: int, input_size: tuple[int, int, int]) -> nn.Module:
    """Build the network of a trusted configuration, of which ``model`` and ``conv`` count."""
    backbone, conv = (built(group, config[group]) for group in ("model", "conv"))
    return create_model(backbone, conv, num_classes, input_size)[0]


def data_config(config: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the data configuration to use: the run's, some keys changed, or another one with the run's recipe."""
    stored = dict(config["data"])
    if changes and "_target_" not in changes:
        unknown = sorted(set(changes) - set(stored))
        if unknown:
            raise UserError(f"data.{unknown[0]}: the run's data has no such key; it has {', '.join(stored)}")
    merged = dict(changes) if changes and "_target_" in changes else stored | dict(changes or {})
    try:
        resolved = OmegaConf.to_container(OmegaConf.create({**config, "data": merged}), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"data: {first_line(error)}") from error
    assert isinstance(resolved, dict)
    return resolved["data"]


def as_trained(node: Mapping[str, Any], run: RunDirectory) -> dict[str, Any]:
    """Return a data configuration that normalizes by the numbers of the run, not by those of the data it names."""
    normalization = run.read_summary().get("normalization")
    return {**node, "normalize": normalization} if normalization and node.get("normalize") is True else dict(node)


def require_same_classes(run: RunDirectory, names: Sequence[str]) -> None:
    """Refuse data whose classes are not those that the run was trained on, in their order.

    Raises:
        UserError: says which classes only one of them has, or which are in another place.
    """
    trained = run.read_summary().get("class_names", list(names))
    if trained == list(names):
        return
    only = {
        "the run": [name for name in trained if name not in names],
        "this data": [name for name in names if name not in trained],
    }
    lists = [f"only {who} has {', '.join(some[:5])}{', …' * (len(some) > 5)}" for who, some in only.items() if some]
    if not lists:
        pairs = enumerate(zip(trained, names, strict=False))
        lists = [f"number {place} is {old} there and {new} here" for place, (old, new) in pairs if old != new][:1]
    raise UserError(
        f"the run was trained on other classes ({len(trained)}) than this data has ({len(names)}): {'; '.join(lists)}"
    )


def choose_weights(run: RunDirectory, weights: str | None) -> tuple[str, dict[str, Tensor]]:
    """Return the name and the state of the weights asked for.

    Raises:
        UserError: an unknown name, no such checkpoint, or averaged weights of a run that averaged none.
    """
    if weights is not None and weights not in WEIGHTS:
        raise UserError(f"weights={weights}: must be one of {', '.join(WEIGHTS)}")
    checkpoint = read_checkpoint(run.checkpoint("best" if weights == "best" else "last"))
    averaged = "averaging_state" in checkpoint
    if weights == "ema" and not averaged:
        raise UserError(f"weights=ema: {run.path} was trained without callbacks=ema; use weights=last or weights=best")
    if weights is None:
        weights = "ema" if averaged else "last"
    key = "current_model_state" if averaged and weights == "last" else "state_dict"
    return weights, checkpoint[key]


def load_weights(model: nn.Module, state: Mapping[str, Tensor], run: RunDirectory) -> None:
    """Load a Classifier's state into its network.

    Raises:
        UserError: the weights are of another network.
    """
    prefix = "model."
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        difference = _difference(model, own, error)
        raise UserError(
            f"the weights in {run.path} are not those of the network in its config.yaml: {difference}"
        ) from error


def _difference(model: nn.Module, state: Mapping[str, Tensor], error: Exception) -> str:
    """Say in one line which keys only one of them has, else what torch says of shapes."""
    expected = model.state_dict().keys()
    lists = {
        "the weights lack": [key for key in expected if key not in state],
        "the network lacks": [key for key in state if key not in expected],
    }
    more = {who: f" and {len(keys) - 1} more" if keys[1:] else "" for who, keys in lists.items()}
    told = [f"{who} {keys[0]}{more[who]}" for who, keys in lists.items() if keys]
    return "; ".join(told) or str(error).splitlines()[-1].strip()


def one_device(settings: Mapping[str, Any]) -> Any:
    """Return what to give Lightning as ``devices``: evaluation runs on one, whatever training ran on.

    Raises:
        UserError: ``trainer.devices`` or ``trainer.num_nodes`` is no number of them.
    """
    devices, nodes = settings["devices"], settings.get("num_nodes", 1)
    require_whole("trainer.num_nodes", nodes, least=1)
    if isinstance(devices, list) and len(devices) == 1:
        return devices  # which one
    if not isinstance(devices, list) and devices != "auto":
        require_whole("trainer.devices", devices, least=1)
    if (devices, nodes) != (1, 1):
        log.info("evaluating on one device; more of them are for training")
    return 1


def evaluation_trainer(settings: Mapping[str, Any]) -> Trainer:
    """Build a trainer that evaluates on one device, in one process, and writes nothing.

    Args:
        settings: device settings, as ``configs/trainer/default.yaml`` names them.
    """
    require_device(settings["accelerator"])
    return Trainer(
        accelerator=settings["accelerator"],
        devices=one_device(settings),
        plugins=[LightningEnvironment()],  # one process, whoever has started it
        precision=resolve_precision(settings["precision"], settings["accelerator"]),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def score(
    model: nn.Module, dataset: Any, trainer: Mapping[str, Any], stage: str = "test", channels_last: bool = False
) -> dict[str, float]:
    """Return top-1 and top-5, fractions of 1, and the loss of a network.

    Args:
        model: the network.
        dataset: what it is scored on.
        trainer: device settings.
        stage: ``test``, or ``validate`` for the images that training is evaluated on.
        channels_last: memory format, in which the weights are left.
    """
    classifier = Classifier(model, dataset.num_classes, channels_last=channels_last)
    (values,) = getattr(evaluation_trainer(trainer), stage)(classifier, datamodule=dataset, verbose=False)
    return {name.rpartition("/")[2]: value for name, value in values.items()}
