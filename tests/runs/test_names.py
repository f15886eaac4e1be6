import re

import pytest

from efficientconv.runs.names import LONGEST_NAME, composable, job_name, run_stamp, safe_name

CIFAR = {"_target_": "efficientconv.datasets.CIFAR", "root": "data"}
FOLDER = {"_target_": "efficientconv.datasets.open_image_folder", "root": "photos", "image_size": 64, "loader": "auto"}
SAME_RESULT = [
    *("sweep=first", "outputs=/tmp/x", "logger=wandb", "logger.wandb.offline=true", "compile=true"),
    *("trainer.accelerator=cpu", "trainer.devices=2", "trainer=ddp", "trainer.log_every_n_steps=1"),
    *("callbacks.checkpoints.every_n_minutes=1", "++callbacks.checkpoints.every_n_steps=null"),
    *("data.root=/scratch/17", "data.workers=8", "data.loader=torch", "data.download=false", "data.eval_batch_size=9"),
]


def test_job_name_is_sorted_and_leaves_out_what_changes_nothing():
    overrides = ["seed=1", "conv=bsconv_u", "+trainer.max_epochs=5", *SAME_RESULT]
    assert job_name(overrides, CIFAR) == "conv-bsconv_u_seed-1_trainer.max_epochs-5"
    assert job_name(list(reversed(overrides)), CIFAR) == job_name(overrides, CIFAR)
    assert job_name([], CIFAR) == "default"


def test_what_a_run_begins_with_is_in_the_name_of_a_job():
    names = {job_name([f"init_from={source}", "seed=0"], CIFAR) for source in ("outputs/a", "outputs/b", "pretrained")}
    assert len(names) == 3
    assert all(name.startswith("init_from-") for name in names)
    assert job_name(["teacher=original", "conv.initialize_from_replaced=data"], CIFAR) == (
        "conv.initialize_from_replaced-data_teacher-original"
    )


def test_a_folder_of_images_keeps_its_own_name_wherever_it_lies():
    names = {
        job_name([f"data.root={place}"], FOLDER) for place in ("/scratch/17/birds", "birds/", "${oc.env:HOME}/birds")
    }
    assert names == {"data.root-birds"}
    assert job_name(["data.root=/scratch/17/cars"], FOLDER) == "data.root-cars"


def test_images_in_memory_are_cropped_differently_and_have_another_name():
    assert job_name(["data.loader=dali"], FOLDER) == job_name(["data.loader=torch"], FOLDER) == "default"
    assert job_name(["data.loader=memory"], FOLDER) == "data.loader-memory"
    small = FOLDER | {"image_size": 32}  # auto is memory
    assert job_name(["data.loader=memory"], small) == "default"
    assert job_name(["data.loader=torch"], small) == "data.loader-torch"


@pytest.mark.parametrize("overrides", [["data.root=/a b/c,d=e"], [f"key{i}={'v' * 20}" for i in range(20)]])
def test_odd_and_long_names_are_safe_and_still_differ(overrides):
    name = job_name(overrides, FOLDER)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert len(name) <= LONGEST_NAME + 9
    assert job_name([*overrides, "seed=1"], FOLDER) != name


def test_names_that_only_look_alike_stay_apart():
    assert job_name(["data.title=a/b"], FOLDER) != job_name(["data.title=a,b"], FOLDER)


def test_safe_name_never_is_empty():
    assert safe_name("/") == "none"


def test_run_stamps_differ_within_a_second():
    stamps = {run_stamp() for _ in range(8)}
    assert len(stamps) > 1
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", stamp) for stamp in stamps)


def test_a_resumed_run_composes_with_keys_that_the_defaults_do_not_have():
    words = ["run=a.b", "resume=True", "data.workers=4", "+trainer.strategy=ddp", "logger=wandb"]
    assert composable(words) == ["run=a.b", "resume=True", "++data.workers=4", "+trainer.strategy=ddp", "logger=wandb"]
    assert composable(words[2:]) == words[2:]
