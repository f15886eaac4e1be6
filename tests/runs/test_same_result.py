import pytest

from efficientconv.runs.same_result import changes, gives_same_result, has_neutral_settings
from tests.training.conftest import resolved


@pytest.mark.parametrize(
    "override",
    [
        "data.eval_batch_size=9",
        "trainer.log_every_n_steps=1",
        "trainer.devices=2",
        "trainer.precision=bf16-mixed",
        "callbacks.checkpoints.every_n_minutes=1",
        "callbacks.checkpoints.every_n_steps=7",
        "logger=tensorboard",
        "compile=true",
        "channels_last=true",
        "outputs=/elsewhere",
        "trainer=ddp",
    ],
)
def test_these_give_the_same_result(override):
    assert list(changes(resolved(), resolved(override))) == []


def test_the_place_of_a_set_with_a_name_of_its_own_gives_the_same_result(monkeypatch):
    stored = resolved("data=cifar10", "data.root=/here")
    monkeypatch.setenv("EFFICIENTCONV_DATA", "/scratch/17")
    assert list(changes(stored, resolved("data=cifar10", "data.download=false"))) == []


@pytest.mark.parametrize(
    ("override", "change"),
    [
        ("recipe.label_smoothing=0.2", ("recipe.label_smoothing", 0.1, 0.2)),
        ("trainer.limit_val_batches=2", ("trainer.limit_val_batches", 1.0, 2)),
        ("trainer.gradient_clip_val=1", ("trainer.gradient_clip_val", None, 1)),
        ("seed=3", ("data.seed", 0, 3)),
    ],
)
def test_these_do_not(override, change):
    assert next(changes(resolved(), resolved(override))) == change


def test_a_folder_at_another_place_may_have_other_images():
    stored, asked = (resolved("data=image_folder", f"data.root={root}") for root in ("a", "b"))
    assert list(changes(stored, asked)) == [("data.root", "a", "b")]
    assert not gives_same_result("data.root", {"_target_": "mypackage.Photos"})


def test_a_key_that_a_later_version_adds_is_no_change_and_one_that_was_there_is():
    stored, later = resolved(), resolved()
    later["recipe"]["brand_new"] = 3
    assert list(changes(stored, later)) == []
    assert list(changes(later, stored)) == [("recipe.brand_new", 3, None)]


def test_what_was_nothing_and_is_something_now_is_a_change():
    stored, asked = resolved("conv=standard"), resolved()
    assert any(key.startswith("conv.layer") for key, _, _ in changes(stored, asked))


def test_an_option_of_the_trainer_is_neutral_if_all_that_it_sets_is():
    assert has_neutral_settings("trainer", "ddp")
    assert not has_neutral_settings("trainer", "default")
    assert not has_neutral_settings("trainer", "mine")
    assert not has_neutral_settings("recipe", "ddp")
