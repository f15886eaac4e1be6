"""Decoding of image files into pixels of one size, many at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from torch import Tensor

from efficientconv.loaders.bad_images import BadImageError, BadImages

T = TypeVar("T")
CHUNK = 100  # files for a thread at a time


def decode_file(path: str, size: int) -> np.ndarray:
    """Decode one file into (3, size, size) uint8, red, green and blue.

    An image of another size is scaled (bilinear, antialiased) until its shorter side fits, and its middle is taken;
    one of the right size keeps its pixels.

    Raises:
        BadImageError: the file is not an image, or is damaged; its path is in the message.
    """
    rgb = _open_rgb(path)
    if rgb.size != (size, size):
        rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb).transpose(2, 0, 1)


def read_rgb(path: str) -> Tensor:
    """Decode one file as it is: (3, H, W) uint8, channels last in memory.

    Raises:
        BadImageError: as ``decode_file``.
    """
    return torch.from_numpy(np.array(_open_rgb(path))).permute(2, 0, 1)


def _open_rgb(path: str) -> Image.Image:
    """Decode; greyscale and palettes become colours, transparency is dropped, EXIF's orientation is not obeyed."""
    try:
        with open(path, "rb") as file:
            content = BytesIO(file.read())  # at once: small reads make threads wait for each other
        with Image.open(content) as image:
            return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise BadImageError(path, "no image format that is known") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise BadImageError(path, str(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:  # of a palette or grey level; Pillow wants it spelled out before it is dropped
        image = image.convert("RGBA")
    return image.convert("RGB")


def find_bad(paths: Sequence[str]) -> list[BadImageError]:
    """Return an error for each file that cannot be decoded, in order."""

    def check(path: str) -> BadImageError | None:
        try:
            _open_rgb(path)
        except BadImageError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [error for error in pool.map(check, paths) if error is not None]


def decode_files(
    paths: Sequence[str], size: int, description: str, bad_files: BadImages | None = None
) -> tuple[np.ndarray, list[int]]:
    """Decode all ``paths``, with a progress bar on a terminal.

    Threads do it: Pillow lets go of the interpreter while it decodes and scales, so that photographs use every core.
    Images of 32×32 are bound by the interpreter, at about 10,000 a second.

    Args:
        paths: of the files.
        size: height and width in pixels.
        description: of the progress bar.
        bad_files: counts the files that cannot be decoded; None stops at the first.

    Returns:
        The images (N, 3, size, size) uint8, and the positions of those that could not be decoded, which are black.

    Raises:
        UserError: there are more bad files than ``bad_files`` allows.
    """
    bad_files = BadImages() if bad_files is None else bad_files
    images = np.zeros((len(paths), 3, size, size), dtype=np.uint8)
    positions: list[int] = []

    def decode_chunk(start: int) -> list[tuple[int, BadImageError]]:
        errors = []
        for i, path in enumerate(paths[start : start + CHUNK], start):
            try:
                images[i] = decode_file(path, size)
            except BadImageError as error:
                errors.append((i, error))
        return errors

    starts = range(0, len(paths), CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(decode_chunk, starts)
        try:
            for position, error in chain.from_iterable(_with_progress(done, description, len(starts))):
                bad_files.add(error)
                positions.append(position)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return images, positions


def _with_progress(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    quiet = not sys.stderr.isatty()
    return track(items, description, total=total, console=Console(stderr=True), transient=True, disable=quiet)
