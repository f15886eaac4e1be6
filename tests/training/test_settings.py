import pytest

from efficientconv.errors import UserError
from efficientconv.training.settings import require_device, require_sensible
from tests.training.conftest import resolved


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed=-1: must be a whole number of at least 0"),
        ("seed=abc", "seed=abc: must be a whole number of at least 0"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0: must be a whole number of at least 1"),
        ("trainer.max_epochs=x", "trainer.max_epochs=x: must be a whole number of at least 1"),
        ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps=0: must be a whole number of at least 1"),
        ("compile=maybe", "compile=maybe: must be true or false"),
        ("channels_last=1", "channels_last=1: must be true, false or auto"),
        ("recipe.label_smoothing=2", "recipe.label_smoothing=2: must be a number from 0 to 1"),
        ("recipe.label_smoothing=x", "recipe.label_smoothing=x: must be a number from 0 to 1"),
        ("recipe.optimizer.lr=abc", "recipe.optimizer.lr=abc: must be a number of at least 0"),
        ("recipe.optimizer.lr=-1", "recipe.optimizer.lr=-1: must be a number of at least 0"),
        ("recipe.layer_decay=0", "recipe.layer_decay=0: must be above 0"),
        ("recipe.layer_decay=1.5", "recipe.layer_decay=1.5: must be a number from 0 to 1"),
        ("recipe.distillation.weight=2", "recipe.distillation.weight=2: must be a number from 0 to 1"),
        ("recipe.distillation.temperature=0", "recipe.distillation.temperature=0: must be above 0"),
        (
            "+recipe.distillation.alpha=1",
            "recipe.distillation={'weight': 0.5, 'temperature': 4.0, 'alpha': 1}: must have weight and temperature, "
            "and nothing else",
        ),
        ("freeze=stem", "freeze=stem: must be a list of patterns, as freeze=[stem,stages.0.*]"),
        ("freeze=[1]", "freeze=[1]: must be a list of patterns, as freeze=[stem,stages.0.*]"),
        ("init_from=true", "init_from=True: must be a path or a word"),
        ("teacher=''", "teacher=: must be a path or a word"),
        ("conv.initialize_from_replaced=maybe", "conv.initialize_from_replaced=maybe: must be true, false or data"),
        ("conv.regularization_weight=abc", "conv.regularization_weight=abc: must be a number of at least 0"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1: must be a number of at least 0"),
        ("trainer.limit_val_batches=-1", "trainer.limit_val_batches=-1: must be a number of at least 0"),
        ("trainer.limit_val_batches=1.5", "trainer.limit_val_batches=1.5: must be a number from 0 to 1"),
        (
            "callbacks.checkpoints.every_n_minutes=-5",
            "callbacks.checkpoints.every_n_minutes=-5: must be a number of at least 0",
        ),
        (
            "callbacks.checkpoints.every_n_steps=0",
            "callbacks.checkpoints.every_n_steps=0: must be a whole number of at least 1",
        ),
    ],
)
def test_refuses(override, message):
    with pytest.raises(UserError) as caught:
        require_sensible(resolved(override))
    assert str(caught.value) == message


def test_takes_the_recipes_as_they_are():
    for recipe in ("bsconv_cifar", "cosine_cifar"):
        require_sensible(resolved(f"recipe={recipe}"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0: nothing would be trained; a fraction"),
        ("+trainer.foo=1", "trainer.foo: lightning.pytorch.Trainer has no such argument; nearest: "),
        ("+foo=1", "foo: there is no such key; nearest: "),
        (
            "trainer.accelerator=tpu",
            "trainer.accelerator=tpu: there is no such device here; this machine has auto",
        ),
    ],
)
def test_refuses_and_says_what_there_is(override, message):
    with pytest.raises(UserError) as caught:
        require_sensible(resolved(override))
    assert str(caught.value).startswith(message)


def test_a_gpu_is_one_where_there_is_one():
    import torch

    if torch.cuda.is_available():
        require_device("gpu")
    else:
        with pytest.raises(UserError, match=r"^trainer\.accelerator=gpu: there is no such device here"):
            require_device("gpu")
