"""Data sets as LightningDataModules, whose images live in memory on the training device."""

from efficientconv.data.base import ImageData, Splits
from efficientconv.data.cifar import CIFAR
from efficientconv.data.digits import Digits
from efficientconv.data.image_folder import ImageFolder
from efficientconv.data.memory import InMemoryLoader, LabeledImages

__all__ = ["CIFAR", "Digits", "ImageData", "ImageFolder", "InMemoryLoader", "LabeledImages", "Splits"]
