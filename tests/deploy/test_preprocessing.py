import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.export import Dim

from efficientconv.datasets.image_format import ImageFormat
from efficientconv.deploy.preprocessing import Preprocessing
from efficientconv.transforms.crops import CenterCrop

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.fixture(scope="module")
def photograph():
    return torch.tensor(load_sample_images().images[0]).permute(2, 0, 1)[:, 100:341, 100:401].contiguous()


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize(("size", "resize"), [(96, 110), (224, 256), (300, 333)])
def test_shows_what_evaluation_shows(photograph, size, resize, keep_aspect):
    module = Preprocessing(ImageFormat(3, size, resize, keep_aspect, **PLAIN))
    expected = CenterCrop(size, resize, keep_aspect)(photograph, np.empty(0)).float()
    found = module(photograph.unsqueeze(0))[0] * 255
    difference = (found - expected).abs()
    assert difference.max() < 1.1  # torchvision rounds to whole levels after each direction
    assert difference.mean() < 0.4


def test_images_of_the_right_size_keep_their_pixels_and_are_normalised():
    module = Preprocessing(ImageFormat(3, 16, 16, True, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125)))
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    expected = (images / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 0.125]).view(
        3, 1, 1
    )
    torch.testing.assert_close(module(images), expected)


def test_grey_is_pillows(photograph):
    module = Preprocessing(ImageFormat(1, 100, 100, True, mean=(0.0,), std=(1.0,)))
    window = photograph[:, :100, :100]
    grey = np.asarray(Image.fromarray(window.permute(1, 2, 0).numpy()).convert("L"))
    found = module(window.unsqueeze(0)) * 255
    assert found.shape == (1, 1, 100, 100)
    assert (found[0, 0] - torch.tensor(grey)).abs().max() < 1


@pytest.mark.parametrize(
    "image_format", [ImageFormat(3, 40, 47, True, **PLAIN), ImageFormat(1, 8, 10, False, (0.4,), (0.3,))]
)
def test_can_be_undone(image_format):
    module = Preprocessing(image_format)
    pixels = torch.randint(0, 256, (2, image_format.channels, image_format.size, image_format.size)) / 255
    images = (pixels - module.mean) / module.std
    photographs = module.undo(images)
    assert photographs.shape == (2, 3, image_format.resize, image_format.resize)
    assert photographs.dtype == torch.uint8
    torch.testing.assert_close(module(photographs), images, rtol=0, atol=1e-4)


def test_exports_for_images_of_any_size(photograph):
    module = Preprocessing(ImageFormat(3, 40, 46, True, **PLAIN))
    shapes = {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}
    program = torch.export.export(module, (torch.zeros(2, 3, 50, 60, dtype=torch.uint8),), dynamic_shapes=(shapes,))
    for image in (photograph, photograph[:, :200, :47], photograph[:, :1, :1]):
        torch.testing.assert_close(program.module()(image.unsqueeze(0)), module(image.unsqueeze(0)))
