import numpy as np
from PIL import Image

from efficientconv.deploy.classify import Prediction
from efficientconv.deploy.sheet import COLUMNS, GAP, MOST_ON_SHEET, ROW, SIDE, draw_sheet

BLUE = np.array([0x9F, 0xC5, 0xF0])


def sheet_of(found, tmp_path):
    draw_sheet(found, tmp_path / "sheet.png")
    return np.asarray(Image.open(tmp_path / "sheet.png"))


def test_the_best_class_has_a_bar_as_long_as_its_probability(photographs, tmp_path):
    path = str(photographs / "a.png")
    sheet = sheet_of([Prediction(path, (("cat", 0.75), ("a name that is far too long for the sheet", 0.25)))], tmp_path)
    assert sheet.shape == (2 * GAP + SIDE + 3 * ROW, 2 * GAP + SIDE, 3)
    bar = sheet[GAP + SIDE + ROW + 1]  # above the letters
    assert (bar == BLUE).all(1).sum() == 0.75 * SIDE + 1  # with both ends


def test_pictures_keep_their_shape(photographs, tmp_path):
    sheet = sheet_of([Prediction(str(photographs / "b.jpg"), (("cat", 1.0),))], tmp_path)
    picture = sheet[GAP : GAP + SIDE, GAP : GAP + SIDE]
    rows = (picture != 255).any((1, 2))
    assert rows.sum() in (114, 115)  # of 40 rows and 70 columns
    assert rows[SIDE // 2]


def test_as_many_as_fit(photographs, tmp_path):
    found = [Prediction(str(photographs / "a.png"), (("cat", 1.0),))] * (MOST_ON_SHEET + 5)
    height, width, _ = sheet_of(found, tmp_path).shape
    assert width == GAP + COLUMNS * (SIDE + GAP)
    assert height == GAP + MOST_ON_SHEET // COLUMNS * (SIDE + 2 * ROW + GAP)
