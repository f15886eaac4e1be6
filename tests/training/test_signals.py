import os
import signal

import pytest

from efficientconv.training.signals import Interrupted, StopRequest


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
