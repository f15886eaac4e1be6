"""A callback for the tests of interrupted runs: sends this process a signal at the end of a given step."""

import os

from lightning.pytorch import Callback


class KillAt(Callback):
    """Send ``signum`` after ``step`` optimizer steps, if the environment says so."""

    def __init__(self, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == self.step and os.environ.get("KILL") == "1":
            os.kill(os.getpid(), self.signum)
