"""Signals in one process; two processes that only agree. Whole runs are in test_ddp.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from efficientconv.errors import Interrupted
from efficientconv.training.stopping import Agreement, StopRequest, of_all_ranks

ROOT = Path(__file__).parents[2]
RANK = """
import os
from torch import distributed
from efficientconv.training.stopping import Agreement, of_all_ranks
distributed.init_process_group("gloo")
rank = distributed.get_rank()
agreement = Agreement(wishes=2)
agreement.open()
heard = [list(agreement(rank, 10 * (step == 1 and rank == 0))) for step in range(3)]
print(heard, list(agreement.at_once(0, 5 - rank)), of_all_ranks(rank))
"""


def test_alone_a_wish_is_granted_at_once():
    agreement = Agreement(wishes=2)
    agreement.open()
    assert agreement(1, 0) == (1, 0)
    assert agreement.at_once(0, 15) == (0, 15)
    assert of_all_ranks("x") == ["x"]


def test_ranks_hear_the_largest_wish_one_call_later(tmp_path):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK],
            env=os.environ | meeting | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert {rank.communicate(timeout=120)[0] for rank in ranks} == {"[[0, 0], [1, 0], [1, 10]] [0, 5] [0, 1]\n"}


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_deferred_signal_waits_for_the_check(signum, code):
    before = signal.getsignal(signum)
    with StopRequest() as stop, stop.deferred():
        stop.check()
        os.kill(os.getpid(), signum)
        assert stop.signum == signum
        with pytest.raises(Interrupted, match=signal.Signals(signum).name) as caught:
            stop.check()
    assert caught.value.exit_code == code
    assert signal.getsignal(signum) == before


def test_a_second_signal_does_not_wait():
    with StopRequest() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


def test_outside_the_deferred_block_a_signal_stops_at_once():
    with StopRequest(), pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)


def test_takes_the_signals_back_from_others():
    with StopRequest() as stop, stop.deferred():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.take_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM


def test_a_closed_terminal_is_nothing_to_a_run_under_nohup(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop, stop.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_signal_of_submitit_is_taken_over_where_submitit_is():
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append("submitit"))
    try:
        with StopRequest() as stop, stop.deferred():
            os.kill(os.getpid(), signal.SIGUSR2)
            with pytest.raises(Interrupted, match="SIGUSR2"):
                stop.check()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert heard == ["submitit"]
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        with StopRequest():
            assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR2, before)
