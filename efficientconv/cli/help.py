"""What ``--help`` prints: a line and three examples, then the rest of the root configuration's template."""

from __future__ import annotations

from string import Template
from textwrap import fill

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig, OmegaConf

from efficientconv.cli.tools import TOOLS, Tool

WIDTH = 80


def list_of_tools() -> str:
    """List the tools, a line each."""
    width = max(map(len, TOOLS))
    lines = (f"  {name:{width}}  {tool.summary}" for name, tool in TOOLS.items())
    return "\n".join(["usage: efficientconv <tool> [key=value ...]", "", *lines, "", "Each has --help, with examples."])


def help_of(tool: Tool, config: DictConfig) -> str:
    """Return the help of a tool.

    Args:
        tool: which.
        config: its configuration composed, with ``hydra``. Its ``hydra.help.template`` may name ``$GROUPS``, the
            options of each group, and ``$CONFIG``, the composed values.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    body = Template(config.hydra.help.template).substitute(
        GROUPS=_groups(config, tool.name), CONFIG=OmegaConf.to_yaml(own)
    )
    examples = "\n".join(f"  {example}" for example in tool.examples)
    return f"{tool.summary}\n\n{examples}\n\n{body.strip()}\n"


def _groups(config: DictConfig, name: str) -> str:
    """List the options of every group that the tool has."""
    loader = GlobalHydra.instance().config_loader()
    groups = sorted(group for group in config.hydra.runtime.choices if "/" not in group)
    searched = list(config.hydra.overrides.hydra)  # names the folder of --config-dir
    options = {group: loader.get_group_options(group, ObjectType.CONFIG, name, searched) for group in groups}
    lines = (f"{group}: {', '.join(sorted(names))}" for group, names in options.items())
    return "\n".join(fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in lines)
