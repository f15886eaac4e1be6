"""Data sets as LightningDataModules: which images there are, of which classes, for training, validation and test.

Small images are held in memory on the training device (`InMemoryData`), photographs are streamed from disk
(`StreamedData`); `efficientconv.loaders` makes batches of either, `efficientconv.transforms` augments them.
"""

from efficientconv.datasets.base import ImageData, Splits
from efficientconv.datasets.cifar import CIFAR
from efficientconv.datasets.digits import Digits
from efficientconv.datasets.fine_grained import CUB200, FineGrained, StanfordDogs
from efficientconv.datasets.image_folder import open_image_folder
from efficientconv.datasets.imagenet import ImageNet
from efficientconv.datasets.in_memory import InMemoryData
from efficientconv.datasets.mnist import MNIST
from efficientconv.datasets.random_images import RandomImages
from efficientconv.datasets.streamed import StreamedData

__all__ = [
    "CIFAR",
    "CUB200",
    "MNIST",
    "Digits",
    "FineGrained",
    "ImageData",
    "ImageNet",
    "InMemoryData",
    "RandomImages",
    "Splits",
    "StanfordDogs",
    "StreamedData",
    "open_image_folder",
]
