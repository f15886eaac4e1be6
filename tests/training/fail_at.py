"""Callbacks for the tests of runs of several ranks: one that fails on one of them, one that signals their parent."""

import os
import signal
import time

from lightning.pytorch import Callback

from efficientconv.training.checkpoints import Checkpoints


class FailAt(Callback):
    """Raise an error on the second rank in its second epoch, in the runs of one seed."""

    def __init__(self, seed: int, seed_that_fails: int) -> None:
        self.fails = seed == seed_that_fails

    def on_train_batch_end(self, trainer, *args) -> None:
        if self.fails and trainer.global_rank == 1 and trainer.current_epoch == 1:
            raise ArithmeticError("as the test wants it")


class StopAt(Callback):
    """Let the second rank send SIGTERM to the process that has started it, after some step of a run of that name."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_rank == 1 and trainer.global_step == self.step and os.environ.get("STOP") == "1":
            os.kill(os.getppid(), signal.SIGTERM)
            (checkpoints,) = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))
            while checkpoints.stop.signum is None:  # until it has been passed on
                time.sleep(0.01)
