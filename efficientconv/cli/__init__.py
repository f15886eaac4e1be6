"""The command line, every tool's front door: Hydra's grammar, one-line errors, exit codes.

::

    tools      the list of tools: a name, a line, examples that run, the function
    single     composes the configuration of a tool that does one thing, and calls its function
    training   `hydra.main` around a training, for one run and for sweeps
    sweep      what a sweep refuses, what its jobs say as they begin and end, the table and the line at its end
    beside     a job that runs beside others
    flags      which words are flags
    help       what --help prints
    ending     one line and an exit code, whatever happens
    calls      from a composed configuration to the function that does the work

Exit codes: 0 done, 1 an error (also where only some jobs of a sweep failed), 2 no such tool, 130 and 143 after SIGINT
and SIGTERM. Only the standard library is imported here, so that a Ctrl+C right at the start ends with one line too.
"""

from __future__ import annotations

import sys

from efficientconv.cli.ending import one_line_errors


def main() -> None:
    """Run ``efficientconv <tool> ...``."""
    with one_line_errors():
        from efficientconv.cli.help import list_of_tools
        from efficientconv.cli.tools import TOOLS

        name, *words = sys.argv[1:] or [""]
        if name in ("", "-h", "--help"):
            print(list_of_tools())
            raise SystemExit(0 if name else 2)
        if name not in TOOLS:
            print(f"efficientconv: there is no tool {name!r}; the tools are {', '.join(TOOLS)}", file=sys.stderr)
            raise SystemExit(2)
    run(name, words)


def train() -> None:
    """Train a network: ``python train.py model=resnet56 conv=bdrconv``."""
    run("train", sys.argv[1:])


def evaluate() -> None:
    """Evaluate a run from its directory alone: ``python eval.py run=outputs/runs/...``."""
    run("eval", sys.argv[1:])


def run(name: str, words: list[str]) -> None:
    """Run a tool with the words of its command line; a failure ends the process."""
    with one_line_errors(name, words):
        from efficientconv.processes import import_from_here

        import_from_here()
        if name == "train":
            from efficientconv.cli.training import run_training

            run_training(words)
        else:
            from efficientconv.cli.single import run_single
            from efficientconv.cli.tools import TOOLS

            run_single(TOOLS[name], words)
