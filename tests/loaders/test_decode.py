from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientconv.errors import UserError
from efficientconv.loaders.bad_images import BadImages
from efficientconv.loaders.decode import CHUNK, decode_file, decode_files, find_bad, read_rgb


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = random_pixels(8, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode_file(str(tmp_path / "a.png"), 8), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width"), [(8, 24), (24, 8)])
def test_the_middle_of_a_long_image_is_taken(tmp_path: Path, height: int, width: int) -> None:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] = random_pixels(8, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode_file(str(tmp_path / "a.png"), 8), random_pixels(8, 8, 3).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(4, 4), (30, 20), (7, 9)])
def test_images_of_any_size_are_scaled(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    decoded = decode_file(str(tmp_path / "a.png"), 8)
    assert (decoded == np.array([10, 20, 30], dtype=np.uint8).reshape(3, 1, 1)).all()
    assert decoded.shape == (3, 8, 8)


def grey() -> Image.Image:
    return Image.new("L", (8, 8), 40)


def grey_with_alpha() -> Image.Image:
    return Image.new("LA", (8, 8), (40, 128))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.full((8, 8), 40 * 256 + 255, dtype=np.uint16))


def colour_with_alpha() -> Image.Image:
    return Image.new("RGBA", (8, 8), (40, 40, 40, 128))


def palette() -> Image.Image:
    return Image.new("RGB", (8, 8), (40, 40, 40)).quantize(4)


def palette_with_transparency() -> Image.Image:
    image = palette()
    image.info["transparency"] = b"\x80\x00\x00\x00"
    return image


MODES = [grey, grey_with_alpha, sixteen_bits, colour_with_alpha, palette, palette_with_transparency]


@pytest.mark.parametrize("make", MODES, ids=lambda make: make.__name__)
def test_every_mode_becomes_rgb(tmp_path: Path, make) -> None:
    make().save(tmp_path / "a.png")
    assert (decode_file(str(tmp_path / "a.png"), 8) == 40).all()


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    Image.fromarray(random_pixels(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match=r"broken.jpg: not an image, or a damaged one \(.*truncated"):
        decode_file(str(path), 8)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match=r"text.png: not an image, or a damaged one \(no image format that is known\)"):
        decode_file(str(tmp_path / "text.png"), 8)


def test_many_files_come_in_order_and_without_a_bar_where_there_is_no_terminal(tmp_path: Path, capfd) -> None:
    paths = []
    for i in range(CHUNK + 10):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("L", (2, 2), i).save(paths[-1])
    decoded, bad = decode_files(paths, 2, "Decoding")
    assert bad == []
    assert decoded.shape == (CHUNK + 10, 3, 2, 2)
    assert decoded[:, 0, 0, 0].tolist() == list(range(CHUNK + 10))
    assert capfd.readouterr() == ("", "")


def test_the_first_bad_file_of_many_is_named(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    Image.new("L", (2, 2)).save(paths[0])
    for path in paths[1:]:
        Path(path).write_text("not an image")
    with pytest.raises(UserError, match=r"1.png: not an image"):
        decode_files(paths, 2, "Decoding")


def test_damaged_files_that_are_allowed_are_black_and_listed(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(CHUNK + 2)]
    for path in paths:
        Image.new("L", (2, 2), 9).save(path)
    Path(paths[1]).write_text("not an image")
    Path(paths[CHUNK]).unlink()
    found = BadImages(limit=2)
    decoded, bad = decode_files(paths, 2, "Decoding", found)
    assert bad == [1, CHUNK]
    assert found.paths == {paths[1], paths[CHUNK]}
    assert decoded[:, 0, 0, 0].nonzero()[0].tolist() == [i for i in range(CHUNK + 2) if i not in bad]


def test_damaged_files_are_found_in_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(4)]
    Image.new("L", (2, 2)).save(paths[1])
    Path(paths[2]).write_text("not an image")
    Path(paths[3]).write_bytes(Path(paths[1]).read_bytes()[:40])
    assert [error.path for error in find_bad(paths)] == [paths[0], *paths[2:]]
    assert find_bad(paths[1:2]) == []


def test_a_photograph_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = random_pixels(5, 7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_rgb(str(tmp_path / "a.png"))
    assert image.shape == (3, 5, 7)
    assert np.array_equal(image.permute(1, 2, 0), pixels)
    assert image.permute(1, 2, 0).is_contiguous()
