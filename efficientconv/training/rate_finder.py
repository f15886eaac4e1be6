"""Which learning rate a new run could take: Lightning's range test, told in a line.

L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017: some steps at rising rates; at a good
one the loss falls most steeply.
"""

from __future__ import annotations

import logging

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder

log = logging.getLogger(__name__)


class RateFinder(LearningRateFinder):
    """Looks for a rate before the first epoch and tells it; the training behind it is as if it had not looked.

    Args:
        lowest: rate of the first step.
        highest: rate of the last one.
        steps: of the optimizer; fewer where the loss rises to four times its lowest.
    """

    def __init__(self, lowest: float = 1e-6, highest: float = 10.0, steps: int = 100) -> None:
        super().__init__(lowest, highest, steps, update_attr=False)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, but not where a run goes on."""
        if trainer.ckpt_path:
            log.info("callbacks=lr_finder: a run that goes on keeps its rate, so none is looked for")
            return
        epochs, trainer.fit_loop.max_epochs = trainer.fit_loop.max_epochs, -1  # as many as the steps take
        try:
            self.lr_find(trainer, pl_module)
        finally:
            trainer.fit_loop.max_epochs = epochs
        rate = self.optimal_lr.suggestion() if self.optimal_lr else None
        if rate is None:
            log.warning("callbacks=lr_finder: no rate was found; callbacks.lr_finder.steps=<more> looks longer")
        else:
            log.info("the loss falls most steeply at a learning rate of %.2g: recipe.optimizer.lr=%.2g", rate, rate)
