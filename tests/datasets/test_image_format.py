import json
from functools import partial

import torch

from efficientconv.datasets import Digits, StreamedData
from efficientconv.datasets.image_format import ImageFormat
from efficientconv.transforms import CenterCrop, RandomAreaCrop


class Photographs(StreamedData):
    def load(self):
        raise AssertionError("what a network sees is known before the files are listed")


def test_of_images_in_memory():
    data = Digits(channels=1, batch_size=8)
    data.setup()
    found = ImageFormat.of(data)
    assert (found.channels, found.size, found.resize, found.keep_aspect) == (1, 32, 32, True)
    assert (found.mean, found.std) == (data.normalization.mean, data.normalization.std)


def test_of_photographs():
    data = Photographs(image_size=160, loader="torch", normalize=False)
    assert ImageFormat.of(data) == ImageFormat(3, 160, 183, True, (0.0,) * 3, (1.0,) * 3)
    crop = partial(CenterCrop, resize=170, keep_aspect=False)
    found = ImageFormat.of(Photographs(image_size=160, loader="torch", eval_crop=crop))
    assert (found.resize, found.keep_aspect, found.mean) == (170, False, (0.485, 0.456, 0.406))


def test_another_crop_is_none():
    assert ImageFormat.of(Photographs(image_size=160, loader="torch", eval_crop=RandomAreaCrop)) is None


def test_survives_json():
    found = ImageFormat(1, 28, 28, True, (0.1307,), (0.3081,))
    assert ImageFormat.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_sample_of_the_test_images_is_spread_over_them():
    data = Digits(batch_size=8)
    data.setup()
    everything = torch.cat([labels for _, labels in data.test_dataloader()])
    some = torch.cat([labels for _, labels in data.test_sample(3)])
    assert some.tolist() == [everything[i] for i in (0, 179, 358)]
    assert sum(len(labels) for _, labels in data.test_sample(10_000)) == len(everything) == 359
