"""Image files turned into pixels of one size, many at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from efficientconv.errors import UserError

CHUNK = 100  # files for a thread at a time


def decode_file(path: str, size: int) -> np.ndarray:
    """Decode one file into (3, size, size) uint8, red, green and blue.

    An image of another size is scaled (bilinear, antialiased) until its shorter side fits, and its middle is taken;
    one of the right size keeps its pixels. Greyscale and palettes become colours, transparency is dropped.

    Raises:
        UserError: the file is not an image, or is damaged; its path is in the message.
    """
    try:
        with open(path, "rb") as file:
            content = BytesIO(file.read())  # at once: small reads make threads wait for each other
        with Image.open(content) as image:
            rgb = _to_rgb(image)
            if rgb.size != (size, size):
                rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise UserError(f"{path}: not an image, or a damaged one ({error})") from error
    return np.asarray(rgb).transpose(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:  # of a palette or grey level; Pillow wants it spelled out before it is dropped
        image = image.convert("RGBA")
    return image.convert("RGB")


def decode_files(paths: Sequence[str], size: int, description: str) -> np.ndarray:
    """Decode all ``paths`` into (N, 3, size, size) uint8, with a progress bar on a terminal.

    Threads do it: Pillow lets go of the interpreter while it decodes and scales, so that photographs use every core.
    Images of 32×32 are bound by the interpreter, at about 10,000 a second.

    Raises:
        UserError: as ``decode_file``, for the first file in order that is damaged.
    """
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def decode_chunk(start: int) -> None:
        for i, path in enumerate(paths[start : start + CHUNK], start):
            images[i] = decode_file(path, size)

    starts = range(0, len(paths), CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(decode_chunk, starts)
        try:
            for _ in track(
                done,
                description,
                total=len(starts),
                console=Console(stderr=True),
                transient=True,
                disable=not sys.stderr.isatty(),
            ):
                pass
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return images
