"""A sweep's directory with finished and other jobs in it, written and not trained."""

import pytest

from efficientconv.runs.directory import RunDirectory
from tests.training.conftest import resolved


@pytest.fixture(scope="session")
def _config():
    return resolved()


@pytest.fixture
def sweep(tmp_path):
    """Return the directory of a sweep."""
    path = tmp_path / "outputs" / "sweeps" / "first"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def write_run(sweep, _config):
    """Return a function that writes a job's directory."""

    def write(name, status, epochs=2, **figures):
        run = RunDirectory(sweep / name)
        run.path.mkdir()
        run.write_config(_config | {"seed": int(name[-1])})
        run.update_summary(status=status, epochs=epochs, wall_seconds=60.0 * epochs, **figures)
        for epoch in range(1, epochs + 1):
            run.append_metrics({"epoch": epoch, "images_per_second": 100.0 * epoch})
        return run

    return write
