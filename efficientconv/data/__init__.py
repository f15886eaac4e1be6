"""Data sets as LightningDataModules: small images in memory on the training device, photographs streamed from disk."""

from efficientconv.data.base import ImageData, Splits
from efficientconv.data.cifar import CIFAR
from efficientconv.data.crops import CenterCrop, RandomAreaCrop, RandomCrop
from efficientconv.data.cub import CUB200
from efficientconv.data.digits import Digits
from efficientconv.data.fine_grained import FineGrained
from efficientconv.data.image_folder import open_image_folder
from efficientconv.data.imagenet import ImageNet
from efficientconv.data.in_memory_data import InMemoryData
from efficientconv.data.memory import InMemoryLoader, LabeledImages
from efficientconv.data.mnist import MNIST
from efficientconv.data.random_images import RandomImages
from efficientconv.data.stanford_dogs import StanfordDogs
from efficientconv.data.streamed_data import StreamedData

__all__ = [
    "CIFAR",
    "CUB200",
    "MNIST",
    "CenterCrop",
    "Digits",
    "FineGrained",
    "ImageData",
    "ImageNet",
    "InMemoryData",
    "InMemoryLoader",
    "LabeledImages",
    "RandomAreaCrop",
    "RandomCrop",
    "RandomImages",
    "Splits",
    "StanfordDogs",
    "StreamedData",
    "open_image_folder",
]
