import pytest

from efficientconv.tables.count.configurations import composed_training
from efficientconv.tables.measure.differences import differences


def changed(table, group, **values):
    training = composed_training(table)
    return training | {group: training[group] | values}


def test_a_training_as_published_differs_in_nothing(small):
    assert differences(small, composed_training(small), 1) == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["data=mnist"], ["data=mnist"]),
        (["data=cifar100", "data.val_split=0.1"], ["data=cifar100", "data.val_split=0.1"]),
        (["data=image_folder", "data.root=photos"], ["data=image_folder", "data.root=photos"]),
        (["recipe.batch_size=8"], ["recipe.batch_size=8"]),
        (["recipe.optimizer.lr=0.5"], ["recipe.optimizer.lr=0.5"]),
        (["recipe=cosine_cifar", "recipe.mixup=0.3"], ["recipe=cosine_cifar", "recipe.mixup=0.3"]),
        (["trainer.max_epochs=1"], ["trainer.max_epochs=1"]),
        (["trainer.limit_train_batches=0.5"], ["trainer.limit_train_batches=0.5"]),
        (["callbacks=ema"], ["callbacks=ema"]),
        (["callbacks=ema", "callbacks.ema.decay=0.9"], ["callbacks=ema", "callbacks.ema.decay=0.9"]),
    ],
    ids=" ".join,
)
def test_words_that_change_the_training_are_found_again(small, words, found):
    assert differences(small, composed_training(small, words), 1) == found


def test_epochs_of_another_recipe_are_said(write):
    table = write(overrides=["data=cifar10", "recipe=bsconv_cifar", "model=resnet20"])
    words = ["recipe=cosine_cifar", "trainer.max_epochs=30"]
    assert differences(table, composed_training(table, ["recipe=cosine_cifar"]), 1) == words
    assert differences(table, composed_training(table, ["recipe.max_epochs=1"]), 1) == ["trainer.max_epochs=1"]


def test_where_and_how_fast_is_no_difference(small):
    assert differences(small, changed(small, "data", root="/elsewhere", seed=7, eval_batch_size=9), 1) == []
    assert differences(small, changed(small, "trainer", accelerator="cuda", precision="32-true"), 1) == []
    assert differences(small, changed(small, "callbacks", checkpoints={"every_n_steps": 20}), 1) == []
    assert differences(small, changed(small, "data", workers=3, loader="torch", download=False), 1) == []
    assert differences(small, changed(small, "data", loader="memory"), 1) == ["data.loader=memory"]


def test_what_a_training_began_with_is_a_difference(small):
    warm = composed_training(small) | {"init_from": "runs/x", "teacher": None, "freeze": ["stem"]}
    warm["conv"] = {"initialize_from_replaced": True}
    found = ["init_from=runs/x", 'freeze=["stem"]', "conv.initialize_from_replaced=true"]
    assert differences(small, warm, 1) == found


def test_further_devices_are_a_difference_since_each_has_a_batch_of_its_own(small):
    assert differences(small, composed_training(small, ["trainer=ddp"]), 2) == ["trainer.devices=2"]
    assert differences(small, composed_training(small, ["trainer=ddp"]), 1) == []
    strategy = changed(small, "trainer", strategy="fsdp", num_nodes=2)
    assert differences(small, strategy, 1) == ["trainer.num_nodes=2"]


def test_a_stand_in_is_always_marked(write):
    table = write(stand_ins=["data"])
    assert differences(table, composed_training(table), 1) == ["data=digits"]


def test_data_from_elsewhere_is_named_with_all_its_values(small):
    training = changed(small, "data", folder="mine")
    training["choices"]["data"] = "mine"
    assert differences(small, training, 1) == ["data=mine", "data.folder=mine"]
