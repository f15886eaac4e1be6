import pytest

from efficientconv.errors import UserError
from efficientconv.training.settings import require_sensible
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
        ("recipe.optimizer.lr=abc", "recipe.optimizer.lr=abc: must be a number"),
    ],
)
def test_refuses(override, message):
    with pytest.raises(UserError) as caught:
        require_sensible(resolved(override))
    assert str(caught.value) == message


def test_takes_the_recipes_as_they_are():
    for recipe in ("bsconv_cifar", "cosine_cifar"):
        require_sensible(resolved(f"recipe={recipe}"))
