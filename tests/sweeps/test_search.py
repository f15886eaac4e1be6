import pytest
from filelock import FileLock

from efficientconv.errors import UserError
from efficientconv.sweeps.search import _hold, _reseeded, _trials_left, open_search
from tests.training.conftest import composed

pytestmark = pytest.mark.filterwarnings("ignore")  # of optuna 2


def test_a_search_on_the_test_set_is_refused():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    with pytest.raises(UserError, match=r"^sweeper=optuna: data\.val_split=0\.0 would let the search choose on"):
        open_search(composed("sweeper=optuna"))


def test_one_process_has_the_study(tmp_path):
    lock = FileLock(tmp_path / ".study.lock")
    with lock, pytest.raises(UserError, match=r"^sweep=first: another process goes on with this search; launcher="):
        _hold(tmp_path, "first")


def test_a_sampler_does_not_ask_again_for_what_was_tried():
    assert _reseeded({"_target_": "Sampler", "seed": 3}, 20) == {"_target_": "Sampler", "seed": 23}
    assert _reseeded({"_target_": "Sampler"}, 20) == {"_target_": "Sampler"}


def test_a_study_asks_again_for_what_was_interrupted_or_failed(tmp_path):
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage, study_name="first", direction="maximize")
    between = {"lr": optuna.distributions.UniformDistribution(0.0, 1.0)}
    complete, failed, killed = (study.ask(between) for _ in range(3))
    study.tell(complete, 0.5)
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    again = optuna.load_study("first", storage)
    assert _trials_left(again, 5) == 4
    assert [again.ask(between).params for _ in range(2)] == [failed.params, killed.params]
    assert _trials_left(again, 1) == 0
