"""What is done to images before the network sees them: `batch` on whole batches, `crops` and `image` one by one."""

from efficientconv.transforms.batch import CropFlip, Normalization
from efficientconv.transforms.crops import CenterCrop, RandomAreaCrop, RandomCrop
from efficientconv.transforms.image import ColorJitter, Flip

__all__ = ["CenterCrop", "ColorJitter", "CropFlip", "Flip", "Normalization", "RandomAreaCrop", "RandomCrop"]
