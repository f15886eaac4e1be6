"""Which settings change where, how fast or how visibly a run works, but not its result: one list for all who ask.

The name of a sweep's job leaves these settings out, a resumed run takes them anew, a sweep goes on in spite of them,
and a table does not call them a difference from the published training. What needed a decision:

- ``data.root`` of a set that is known by its name says only where its images lie. A folder of images has no name of its
  own: there the fingerprint of its listing decides, see `ImageData.fingerprint`, and the job's name keeps the folder's.
- ``data.loader``: the pixels of DALI and of torch differ by up to 0.2 of 255 grey levels, less than the rounding in
  the image files themselves, so they count as the same. ``memory`` crops differently and is another training.
- ``data.max_bad_images`` and ``keep_batch_size`` say when a run gives up, not what one does that goes on.
- ``trainer.precision``, ``compile``, ``channels_last`` and ``cuda_graphs`` choose kernels, which round differently, as
  devices do.
- ``trainer.devices`` and ``num_nodes``: a run may go on with others. But each device takes a batch of its own, so that
  more of them train differently: a table says so, and only a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from efficientconv.config_path import CONFIGS

DEVICE_SETTINGS = ("accelerator", "devices", "num_nodes", "strategy", "precision")
DISPLAY_SETTINGS = ("log_every_n_steps", "enable_progress_bar", "enable_model_summary", "profiler", "default_root_dir")
KERNEL_SETTINGS = ("benchmark", "deterministic")
DATA_SETTINGS = ("download", "cache_dir", "workers", "eval_batch_size", "max_bad_images", "keep_batch_size")

SAME_RESULT = frozenset(
    (
        *("outputs", "sweep", "run", "resume", "allow", "logger", "launcher", "sweeper"),
        *("compile", "channels_last", "cuda_graphs"),
        *(f"trainer.{name}" for name in (*DEVICE_SETTINGS, *DISPLAY_SETTINGS, *KERNEL_SETTINGS)),
        *(f"data.{name}" for name in DATA_SETTINGS),
        *(f"callbacks.checkpoints.{name}" for name in ("every_n_minutes", "every_n_steps")),
    )
)
"""Keys that never change a result, and groups, all of whose keys do not."""

DEVICE_COUNTS = ("trainer.devices", "trainer.num_nodes")
"""Of these keys, those that change how many images a step takes."""

RECORDS = ("choices", "overrides", "hydra")  # in a stored configuration: how it was said, not what

FOLDER = "efficientconv.datasets.open_image_folder"
NAMED_SETS = "efficientconv.datasets."


def gives_same_result(key: str, data: Mapping[str, Any]) -> bool:
    """Tell whether a setting, whatever its value, leaves the result of a run as it is.

    Args:
        key: dotted, such as ``data.root``.
        data: the configuration of the run's data, on which some of the answers depend.
    """
    parts = key.split(".")
    if any(".".join(parts[:length]) in SAME_RESULT for length in range(1, len(parts) + 1)):
        return True
    return key == "data.root" and has_own_name(data)


def has_own_name(data: Mapping[str, Any]) -> bool:
    """Tell whether a data set's name says which images it has, wherever they lie; a folder's or a stranger's does not.

    Args:
        data: its configuration.
    """
    target = str(data.get("_target_", ""))
    return target.startswith(NAMED_SETS) and target != FOLDER


def loader_kind(data: Mapping[str, Any], loader: Any) -> str:
    """Return ``memory`` or ``streamed``: what decides the pixels of ``data.loader=<loader>``.

    Args:
        data: the configuration of the data.
        loader: ``auto``, ``memory``, ``dali`` or ``torch``.
    """
    if loader == "auto" and data.get("_target_") == FOLDER:
        from efficientconv.datasets.image_folder import STREAM_FROM  # torch: only where it must be known

        loader = "memory" if data["image_size"] < STREAM_FROM else "streamed"
    return "memory" if loader == "memory" else "streamed"


def is_same_value(key: str, value: Any, other: Any, data: Mapping[str, Any]) -> bool:
    """Tell whether two values of a setting give the same result.

    Args:
        key: dotted.
        value: one of them.
        other: the other one.
        data: the configuration of the data.
    """
    if value == other or gives_same_result(key, data):
        return True
    return key == "data.loader" and loader_kind(data, value) == loader_kind(data, other)


def changes(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what makes a configuration ask for another result than a stored one gave.

    A key that is not in the stored one is of a later version, and no change: what it does now was not there then.

    Args:
        stored: the resolved configuration of a run.
        asked: another one, resolved.

    Yields:
        Key, stored value and asked value, in the order of the keys; ``data.root`` of a folder among them, though its
        images may be the same.
    """
    data = asked.get("data") or {}
    for key, value, other in _unequal(stored, asked):
        if key.partition(".")[0] not in RECORDS and not is_same_value(key, value, other, data):
            yield key, value, other


def _unequal(stored: Any, asked: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(stored, Mapping) and isinstance(asked, Mapping)):
        if stored != asked:
            yield key, stored, asked
        return
    for name in sorted(stored):
        yield from _unequal(stored[name], asked.get(name), f"{key}.{name}" if key else str(name))


def name_in_job(key: str, value: str, data: Mapping[str, Any]) -> str | None:
    """Return how an override is told in the name of a sweep's job; None where it does not belong there.

    Args:
        key: of the override, dotted, or a group.
        value: as on the command line.
        data: the configuration of the job's data.
    """
    if gives_same_result(key, data) or has_neutral_settings(key, value):
        return None
    if key == "data.loader" and loader_kind(data, value) == loader_kind(data, "auto"):
        return None
    if key == "data.root" and data.get("_target_") == FOLDER:
        value = PurePath(value).name
    return f"{key}-{value}"


def has_neutral_settings(group: str, option: str) -> bool:
    """Tell whether a shipped option of ``trainer`` sets nothing but what leaves the result as it is."""
    file = CONFIGS / group / f"{option}.yaml"
    if group != "trainer" or not file.is_file():
        return False
    settings = yaml.safe_load(file.read_text()) or {}
    return all(f"trainer.{name}" in SAME_RESULT for name in settings if name != "defaults")
