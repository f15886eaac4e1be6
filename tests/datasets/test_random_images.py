import pytest
import torch

from efficientconv.datasets import RandomImages
from efficientconv.errors import UserError


def test_noise_of_every_class_and_the_same_each_time():
    data, again = (
        RandomImages(images=25, classes=4, image_size=6, seed=0, batch_size=5),
        RandomImages(images=25, classes=4, image_size=6, seed=9, batch_size=5),
    )
    for each in (data, again):
        each.setup("fit")
    assert (data.num_classes, data.input_size, data.evaluated_on) == (4, (3, 6, 6), "test")
    first, second = data.load(), again.load()
    assert torch.equal(first.train.images, second.train.images)
    assert torch.bincount(first.train.labels).tolist() == [7, 6, 6, 6]
    assert len(first.test) == 5
    assert first.train.images.unique().numel() > 250
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": 0}, r"data\.classes=0: must be a whole number of at least 1"),
        ({"images": 9}, r"data\.images=9: must be a whole number of at least 10"),
        ({"image_size": 0.5}, r"data\.image_size=0\.5: must be a whole number of at least 1"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(UserError, match=message):
        RandomImages(**values)
