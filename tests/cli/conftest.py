"""The command line within the process of the tests, in an empty folder, with the logging put back afterwards."""

import logging
from typing import NamedTuple

import pytest

from efficientconv.cli import run


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return a function that runs a tool with some words, and returns its status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setenv("EFFICIENTCONV_TRACEBACK", "")
    monkeypatch.setattr("sys.argv", ["pytest"])  # put back afterwards
    monkeypatch.setattr(logging, "raiseExceptions", True)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def ended(tool, *words):
        status = 0
        try:
            run(tool, list(words))
        except SystemExit as end:
            status = end.code
        return Ended(status, *capsys.readouterr())

    yield ended
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
