import os
import signal

import pytest

from efficientconv.errors import Interrupted
from efficientconv.sweeps.outcomes import Outcomes
from efficientconv.sweeps.stopping import jobs_stopped_by_signals


def test_a_signal_stops_the_jobs_and_ends_the_sweep_with_one_line(tmp_path):
    outcomes = Outcomes(tmp_path / ".ended-1")
    outcomes.open({"a": "seed=0"}, left=1)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, jobs_stopped_by_signals(outcomes):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.line == "interrupted (SIGTERM); to go on: the same command line"
    assert caught.value.exit_code == 143
    assert outcomes.stopped
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_nohup_ignores_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with jobs_stopped_by_signals(Outcomes(tmp_path)):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
