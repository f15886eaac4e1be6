"""Real processes; what ends is asked of the system."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from efficientconv.tables.count.parallel import in_processes

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
LONG = 600.0  # seconds: who waits for it fails


def sleep_in(folder, seconds=LONG):
    (folder / str(os.getpid())).touch()
    time.sleep(seconds)


def fail_beside(folder):
    wait_until(lambda: list(folder.iterdir()))
    raise ValueError("no such number")


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
    return result


def do(function, folder):
    return function(folder)


def has_ended(pid):
    """Tell whether a process is gone, or dead and only not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def started_in(folder):
    return [int(file.name) for file in folder.iterdir()]


def test_results_are_in_the_order_of_the_jobs():
    assert in_processes(divmod, [(7, 2), (9, 4), (8, 8)], 2) == [(3, 1), (2, 1), (1, 0)]


def test_the_first_job_that_fails_ends_the_others_of_its_own_alone(tmp_path):
    other = get_context("spawn").Process(target=time.sleep, args=(LONG,))
    other.start()
    with pytest.raises(ValueError, match=r"^no such number$"):
        in_processes(do, [(sleep_in, tmp_path), (fail_beside, tmp_path)], 2)
    (pid,) = started_in(tmp_path)
    wait_until(lambda: has_ended(pid))
    assert other.is_alive()
    other.kill()
    other.join()


@pytest.fixture
def parent(tmp_path):
    """Start a process with two busy ones below it, all in a group of their own."""
    code = f"""
from pathlib import Path
from efficientconv.tables.count.parallel import in_processes
from tests.tables.count.test_parallel import sleep_in

if __name__ == "__main__":
    in_processes(sleep_in, [(Path({str(tmp_path)!r}),)] * 2, 2)
"""
    file = tmp_path.parent / f"{tmp_path.name}.py"
    file.write_text(code)
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(file)]
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(lambda: len(started_in(tmp_path)) == 2)
        yield process
        process.kill()


def test_all_end_with_their_parent_however_it_ends(parent, tmp_path):
    parent.kill()
    for pid in started_in(tmp_path):
        wait_until(lambda pid=pid: has_ended(pid))


def test_an_interruption_ends_all_and_only_the_parent_says_so(parent, tmp_path):
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert said.count("Traceback") == 1
    assert said.endswith("KeyboardInterrupt\n")
    for pid in started_in(tmp_path):
        wait_until(lambda pid=pid: has_ended(pid))
