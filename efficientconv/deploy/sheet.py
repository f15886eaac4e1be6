"""A picture sheet: images in a grid, each with its most probable classes as bars."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from efficientconv.deploy.classify import Prediction
from efficientconv.loaders.decode import read_rgb

MOST_ON_SHEET = 60
COLUMNS = 6
SIDE = 200  # pixels of a picture
GAP = 20  # between pictures, and around them
ROW = 21  # pixels of a class below a picture
TEXT_SIZE = 14
NAME_SIZE = 12
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
WHITE, INK, GREY, BAR, BEST_BAR = "white", "#1f2933", "#7b8794", "#d9e2ec", "#9fc5f0"


def draw_sheet(found: Sequence[Prediction], file: Path) -> None:
    """Draw the first ``MOST_ON_SHEET`` predictions and write them as PNG."""
    shown = found[:MOST_ON_SHEET]
    rows = max((len(each.classes) for each in shown), default=0)
    columns = max(1, min(COLUMNS, len(shown)))
    height = SIDE + ROW * (rows + 1)
    size = (GAP + columns * (SIDE + GAP), GAP + max(1, ceil(len(shown) / columns)) * (height + GAP))
    sheet = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(sheet)
    for position, each in enumerate(shown):
        row, column = divmod(position, columns)
        left, top = GAP + column * (SIDE + GAP), GAP + row * (height + GAP)
        _draw_picture(sheet, each.path, left, top)
        _draw_classes(draw, each, left, top + SIDE)
    sheet.save(file, format="PNG")


def _draw_picture(sheet: Image.Image, path: str, left: int, top: int) -> None:
    """Draw the whole picture in the middle of its square; small ones with their pixels as they are."""
    picture = Image.fromarray(read_rgb(path).permute(1, 2, 0).numpy())
    enlarged = max(picture.size) < SIDE
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    fitted = ImageOps.contain(picture, (SIDE, SIDE), method)
    sheet.paste(fitted, (left + (SIDE - fitted.width) // 2, top + (SIDE - fitted.height) // 2))


def _draw_classes(draw: ImageDraw.ImageDraw, each: Prediction, left: int, top: int) -> None:
    """Write the file's name, and below it a bar for each class, as long as its probability."""
    font, small = ImageFont.load_default(TEXT_SIZE), ImageFont.load_default(NAME_SIZE)
    draw.text((left, top + 4), _shortened(draw, Path(each.path).name, small, SIDE), fill=GREY, font=small)
    for rank, (name, probability) in enumerate(each.classes):
        y = top + ROW * (rank + 1)
        if SIDE * probability >= 1:
            draw.rectangle((left, y + 1, left + SIDE * probability, y + ROW - 3), fill=BAR if rank else BEST_BAR)
        figure = f"{probability:.1%}"
        width = draw.textlength(figure, font=font)
        draw.text((left + SIDE - width - 3, y + 1), figure, fill=INK, font=font)
        draw.text((left + 4, y + 1), _shortened(draw, name, font, SIDE - width - 14), fill=INK, font=font)


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Font, room: float) -> str:
    """Cut ``text`` until it fits into ``room`` pixels."""
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "…", font=font) > room:
        text = text[:-1]
    return text + "…"
