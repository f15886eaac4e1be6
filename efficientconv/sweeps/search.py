"""A search: Optuna's sweeper, on a study in the sweep's directory that goes on where the line is given again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock, Timeout
from hydra.plugins.sweeper import Sweeper
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from efficientconv.errors import UserError, require_whole
from efficientconv.sweeps.engines import require_installed

if TYPE_CHECKING:
    from optuna.study import Study

log = logging.getLogger(__name__)


def open_search(config: DictConfig) -> Sweeper:
    """Open the study of a sweep, and return the sweeper that runs what is left of it.

    Args:
        config: of the sweep.

    Raises:
        UserError: Optuna is not installed; the search would be on the test set; or another process is at it.
    """
    require_installed("sweeper", "optuna", "hydra_optuna_sweeper")
    require_validation_part(config)
    values = cast("dict[str, Any]", OmegaConf.to_container(config.sweeper, resolve=True))
    for key in ("n_trials", "n_jobs"):
        require_whole(f"sweeper.{key}", values[key], least=1)
    directory = Path(config.hydra.sweep.dir).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    _hold(directory, config.sweep)

    import optuna
    from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{directory}/study.db"
    direction = values["direction"]
    study = optuna.create_study(storage, study_name=config.sweep, direction=direction, load_if_exists=True)
    return OptunaSweeper(
        sampler=instantiate(_reseeded(values["sampler"], len(study.trials))),
        direction=direction,
        storage=storage,
        study_name=config.sweep,
        n_trials=_trials_left(study, values["n_trials"]),
        n_jobs=values["n_jobs"],
        max_failure_rate=1.0,  # the sweep's last line names what has failed
        search_space=None,
        custom_search_space=None,
        params=None,
    )


def _reseeded(sampler: dict[str, Any], trials: int) -> dict[str, Any]:
    """Return a sampler's configuration with a seed that does not ask again for what the study has tried."""
    return sampler if sampler.get("seed") is None else sampler | {"seed": sampler["seed"] + trials}


def require_validation_part(config: DictConfig) -> None:
    """Refuse a search that would choose by the accuracy on the test set.

    Raises:
        UserError: ``data.val_split`` keeps no images back.
    """
    if not config.data.get("val_split"):
        raise UserError(
            f"sweeper=optuna: data.val_split={config.data.get('val_split')} would let the search choose on the test "
            "set; data.val_split=0.1 lets it choose on a tenth of the training images, and leaves the test set unseen"
        )


def _hold(directory: Path, name: str) -> None:
    """Keep the study for this process, until it ends."""
    lock = FileLock(directory / ".study.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"sweep={name}: another process goes on with this search; "
            "launcher=joblib sweeper.n_jobs=4 would train four trials at a time"
        ) from None
    _held.append(lock)


_held: list[FileLock] = []


def _trials_left(study: Study, in_all: int) -> int:
    """Return how many trials a study has left, and have those asked for again that were interrupted or have failed."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # of a process that was killed
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    settled: list[Any] = [trial.params for trial in complete]
    settled += [trial.system_attrs.get("fixed_params") for trial in study.get_trials(states=(TrialState.WAITING,))]
    for trial in study.get_trials(states=(TrialState.FAIL,)):
        if trial.params and trial.params not in settled:
            study.enqueue_trial(trial.params)
            settled.append(trial.params)
    left = max(0, in_all - len(complete))
    if complete:
        log.info("%d of %d trials are done; sweeper.n_trials=<number> says how many in all", len(complete), in_all)
    return left
