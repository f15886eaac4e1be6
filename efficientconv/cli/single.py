"""A tool that does one thing: its configuration is composed here, and its function called with plain values."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from efficientconv.cli.flags import OF_SINGLE_TOOLS, require_flags, single_parser
from efficientconv.cli.help import help_of
from efficientconv.cli.tools import Tool
from efficientconv.cli.words import quoted
from efficientconv.config_path import CONFIGS, with_own_configs
from efficientconv.errors import UserError
from efficientconv.runs.names import register_resolvers


def run_single(tool: Tool, words: Sequence[str]) -> None:
    """Do what a command line says: print the tool's help or its configuration, or let it do its work.

    Args:
        tool: which.
        words: those behind its name.

    Raises:
        UserError: a flag that is none, a folder that is not there, and whatever the tool refuses.
        HydraException: the words do not compose.
    """
    require_flags(words, OF_SINGLE_TOOLS, tool.name)
    told = single_parser().parse_intermixed_args(list(words))
    with composed(tool.name, [] if told.help else tool.words(told.words), told.config_dir) as config:
        if told.help:
            print(help_of(tool, config), end="")
            return
        if told.cfg:
            print(_shown(config, told.cfg, told.package, told.resolve), end="")
            return
        values = plain_values(config, tool.resolve)
    logging.basicConfig(format="%(message)s")  # standard output is for what the tool finds
    logging.getLogger("efficientconv").setLevel(logging.INFO)
    with with_own_configs(None if told.config_dir is None else _folder(told.config_dir)):
        tool(values)


@contextmanager
def composed(name: str, words: Sequence[str], config_dir: str | None = None) -> Iterator[DictConfig]:
    """Compose a root configuration for as long as the block lasts, in which Hydra's own state is there.

    Args:
        name: of the file in ``configs``.
        words: overrides.
        config_dir: a folder with further configurations, if any.

    Raises:
        UserError: there is no such folder.
        HydraException: the words do not compose.
    """
    folders = [] if config_dir is None else [f"hydra.searchpath=[{quoted(f'file://{_folder(config_dir)}')}]"]
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield compose(name, overrides=[*folders, *words], return_hydra_config=True)


def _folder(path: str) -> Path:
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise UserError(f"--config-dir {path}: there is no such folder (looked in {folder})")
    return folder


def plain_values(config: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """Return a composed configuration as plain values, with ``choices`` and ``overrides`` in the place of ``hydra``.

    Raises:
        MissingMandatoryValue: a value that has to be given was not.
    """
    choices = {group: option for group, option in config.hydra.runtime.choices.items() if "/" not in group}
    words = [str(word) for word in config.hydra.overrides.task]
    own = _without_hydra(config)
    values = cast("dict[str, Any]", OmegaConf.to_container(own, resolve=resolve, throw_on_missing=True))
    empty = {group: None for group, option in choices.items() if option is None}
    return empty | values | {"choices": choices, "overrides": words}


def _without_hydra(config: DictConfig) -> DictConfig:
    own = config.copy()
    with open_dict(own):
        del own["hydra"]
    return own


def _shown(config: DictConfig, which: str, package: str | None, resolve: bool) -> str:
    """Return what ``--cfg`` asks for, as YAML."""
    node: Any = {"job": _without_hydra(config), "hydra": config.hydra, "all": config}[which]
    if package not in (None, "_global_"):
        node = OmegaConf.select(node, package)
        if node is None:
            raise UserError(f"--package {package}: there is no such key")
    return OmegaConf.to_yaml(node, resolve=resolve) if OmegaConf.is_config(node) else f"{node}\n"
