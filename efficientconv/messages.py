"""One line for the user, whatever went wrong: ours, Hydra's, OmegaConf's or the system's."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from efficientconv.errors import UserError, nearest_first


def one_line(error: BaseException, config_name: str | None = None, words: Sequence[str] = ()) -> str:
    """Say what was wrong, in one line.

    Args:
        error: what was raised.
        config_name: the root configuration that was being composed, whose keys are offered for a mistyped one.
        words: the overrides that it was composed of; the keys are those of the options that they choose.
    """
    known = next((e for e in _chain(error) if isinstance(e, UserError)), None)
    if known is not None:
        return _joined(str(known))
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_option(error.missing_cfg_file or "", error.options)
    if isinstance(error, ConfigCompositionException):
        return _composition(error, config_name, words)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key or error.key} is missing: give it as {error.full_key or error.key}=<value>"
    if isinstance(error, OmegaConfBaseException):
        return _joined(str(error).splitlines()[0])
    if isinstance(error, HydraException):
        return _joined(str(error))
    if isinstance(error, OSError) and error.strerror:
        file = error.filename2 or error.filename
        return f"{file}: {error.strerror}" if file else error.strerror
    if isinstance(error, ValueError):
        return _joined(str(error))
    return f"{type(error).__name__}: {_joined(str(error))} (HYDRA_FULL_ERROR=1 shows where)"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _joined(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _unknown_option(missing: str, options: Sequence[str]) -> str:
    group, _, name = missing.rpartition("/")
    return f"{group}={name}: there is no such {group}; nearest first: {nearest_first(name, options)}"


def _composition(error: ConfigCompositionException, config_name: str | None, words: Sequence[str]) -> str:
    text = _joined(f"{error} {error.__cause__ or ''}")
    match = re.search(r"Could not override '([^']+)'", text) or re.search(r"Could not find '([^']+)'", text)
    if match is None or config_name is None:
        return text
    key = match[1]
    return f"{key}: there is no such key; nearest: {nearest_first(key, _keys(config_name, words), most=5)}"


def _keys(config_name: str, words: Sequence[str]) -> list[str]:
    """List every key of a root configuration, with the groups that the command line chooses."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from efficientconv.config_path import CONFIGS

    first_job = [word.partition(",")[0] for word in words if "=" in word]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        groups = [key for key in compose(config_name) if (CONFIGS / str(key)).is_dir()]
        choices = [word for word in first_job if word.partition("=")[0] in groups]
        return list(_flat(compose(config_name, overrides=choices)))


def _flat(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not OmegaConf.is_missing(config, key) and not node._is_none():
            yield from _flat(node, f"{prefix}{key}.")


def _unreadable(error: OverrideParseException) -> str:
    """Say how to quote a value that is not of Hydra's grammar, or that the shell has cut at a space."""
    key, equals, value = error.override.partition("=")
    if not equals:
        return f"{key}: values are given as key=value, and one with spaces as 'key=\"a b\"'; --help lists the keys"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f"{error.override}: cannot be read; a text with spaces or brackets needs quotes: '{key}=\"{quoted}\"'"


def _unknown_target(where: str, target: str) -> str:
    """Say what is wrong with a ``_target_``: its module, or the name in it."""
    module, _, name = target.rpartition(".")
    place = f"{where}._target_={target}"
    try:
        names = dir(importlib.import_module(module))
    except ModuleNotFoundError as error:
        return f"{place}: {error}; a module of your own lies in the current folder or PYTHONPATH"
    except Exception as error:  # a module may raise anything
        return f"{place}: {module} cannot be imported: {one_line(error)}"
    known = [each for each in names if not each.startswith("_")]
    return f"{place}: there is no {name} in {module}; nearest first: {nearest_first(name, known, most=5)}"


def _instantiation(error: InstantiationException) -> str:
    cause = error.__cause__
    where = re.search(r"full_key: (\S+)", str(error))
    target = re.match(r"Error locating target '([^']+)'", str(error))
    if target is not None:
        return _unknown_target(where[1] if where else "", target[1])
    text = one_line(cause) if cause is not None else _joined(str(error).splitlines()[0])
    return f"{where[1]}: {text}" if where else text
