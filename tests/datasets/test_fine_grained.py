from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets import utils

from efficientconv.datasets import CUB200, FineGrained, StanfordDogs
from efficientconv.datasets.fine_grained import SOURCES
from efficientconv.errors import UserError

Write = Callable[..., list[str]]


def stanford_cars(root: Path, write: Write) -> None:
    base = root / "stanford_cars"
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    for part, path in (
        ("train", base / "devkit" / "cars_train_annos.mat"),
        ("test", base / "cars_test_annos_withlabels.mat"),
    ):
        files = [Path(name).name for name in write(base / f"cars_{part}", 4 if part == "train" else 2)]
        rows = [(1, 2, 3, 4, i % 2 + 1, name) for i, name in enumerate(files)]
        fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
        savemat(base / path, {"annotations": np.array(rows, dtype=fields)})


def flowers102(root: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    base = root / "flowers-102"
    for i, path in enumerate(write(base / "jpg", 8), 1):
        Path(path).rename(base / "jpg" / f"image_{i:05d}.jpg")
    savemat(base / "imagelabels.mat", {"labels": np.array([1, 2, 1, 2, 1, 2, 1, 2], dtype=np.uint8)})
    splits = {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6, 7, 8]}
    savemat(base / "setid.mat", {name: np.array([ids]) for name, ids in splits.items()})
    sums = {
        key: (name, hashlib.md5((base / name).read_bytes()).hexdigest())
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", datasets.Flowers102._file_dict | sums)


def fgvc_aircraft(root: Path, write: Write) -> None:
    base = root / "fgvc-aircraft-2013b" / "data"
    names = [Path(path).stem for path in write(base / "images", 8)]
    variants = ["707-320", "Boeing 717"]
    (base / "variants.txt").write_text("\n".join(variants) + "\n")
    for part, chosen in {"train": names[:2], "val": names[2:4], "test": names[4:]}.items():
        lines = [f"{name} {variants[i % 2]}\n" for i, name in enumerate(chosen)]
        (base / f"images_variant_{part}.txt").write_text("".join(lines))


def oxford_pets(root: Path, write: Write) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    lines = []
    for label, breed in enumerate(("Abyssinian", "american_bulldog"), 1):
        for i, path in enumerate(write(base / "images", 4, first=10 * label), 1):
            Path(path).rename(base / "images" / f"{breed}_{i}.jpg")
            lines.append(f"{breed}_{i} {label} 1 1\n")
    for part, chosen in {"trainval": (0, 1, 4, 5), "test": (2, 3, 6, 7)}.items():
        (base / "annotations" / f"{part}.txt").write_text("".join(lines[i] for i in chosen))


def food101(root: Path, write: Write) -> None:
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    names = {
        dish: [f"{dish}/{Path(path).stem}" for path in write(base / "images" / dish, 4)] for dish in ("pie", "ribs")
    }
    for part, chosen in {"train": slice(2), "test": slice(2, 4)}.items():
        (base / "meta" / f"{part}.json").write_text(json.dumps({dish: files[chosen] for dish, files in names.items()}))


CLASSES = {
    "stanford_cars": ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"],
    "flowers102": ["pink primrose", "hard-leaved pocket orchid"],
    "fgvc_aircraft": ["707-320", "Boeing 717"],
    "oxford_pets": ["Abyssinian", "American Bulldog"],
    "food101": ["pie", "ribs"],
}


@pytest.fixture(params=list(SOURCES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(name: str, tmp_path: Path, write_photographs: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The set called ``name`` in its official layout: two classes, four training and four (cars: two) test images."""
    if name == "flowers102":
        flowers102(tmp_path, write_photographs, monkeypatch)
    else:
        globals()[name](tmp_path, write_photographs)
    return tmp_path


def make(name: str, root: Path, **options) -> FineGrained:
    return FineGrained(name, root=str(root), image_size=16, batch_size=2, workers=0, loader="torch", **options)


def labels(batches) -> torch.Tensor:
    return torch.cat([labels for _, labels in batches])


def test_the_official_layout(name: str, root: Path) -> None:
    data = make(name, root, download=False)
    data.prepare_data()
    data.setup("fit")
    assert data.title == name
    assert data.class_names[:2] == CLASSES[name]
    assert data.evaluated_on == "test"
    assert labels(data.train_dataloader()).bincount().tolist() == [2, 2]
    assert labels(data.test_dataloader()).bincount().tolist() == ([1, 1] if name == "stanford_cars" else [2, 2])


def test_the_test_images_need_no_training_images_beside_them(name: str, root: Path) -> None:
    data = make(name, root)
    data.setup("fit")
    expected = labels(data.test_dataloader()).tolist()
    remove_training_files(data)
    assert labels(ready_to_test(make(name, root, download=False)).test_dataloader()).tolist() == expected


def remove_training_files(data: FineGrained | CUB200 | StanfordDogs) -> None:
    for path in data.train_dataloader().listing.paths:
        Path(path).unlink()
    for file in set(data.needed) - set(data.needed_for_test):
        path = data.base / file
        path.rmdir() if path.is_dir() else path.unlink()


def ready_to_test(data: FineGrained | CUB200 | StanfordDogs) -> FineGrained | CUB200 | StanfordDogs:
    data.prepare_test()
    data.setup("test")
    data.prepare_data()  # as Lightning does once more
    return data


def test_a_validation_set_of_its_own(name: str, root: Path) -> None:
    if SOURCES[name].validation is None:
        with pytest.raises(UserError, match=rf"data.official_validation=true: {name} has no validation set of its own"):
            make(name, root, official_validation=True)
        return
    data = make(name, root, official_validation=True)
    data.setup("fit")
    assert data.evaluated_on == "validation"
    counts = [labels(batches).tolist() for batches in (data.val_dataloader(), data.test_dataloader())]
    assert counts == [[0, 1], [0, 1, 0, 1]]
    assert sorted(labels(data.train_dataloader()).tolist()) == [0, 1]


def test_what_is_missing_and_where_to_get_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **options) -> None:
        raise OSError("no network")

    for module in ("flowers102", "fgvc_aircraft", "oxford_iiit_pet", "food101"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fail)
    source = SOURCES[name]
    reason = "The original URL is broken" if name == "stanford_cars" else "no network"
    message = (
        rf"data={name}: looked in .*/{source.folder} \(missing: {', '.join(source.needed)}\). "
        rf"The download failed: {reason}.*To fetch it by hand: [^{{}}]*https?://[^{{}}]*data=digits needs no download"
    )
    with pytest.raises(UserError, match=message):
        make(name, tmp_path).prepare_data()


def test_an_image_that_is_not_there(name: str, root: Path) -> None:
    data = make(name, root)
    data.setup("fit")
    Path(data.test_dataloader().listing.paths[1]).unlink()
    with pytest.raises(UserError, match=rf"data={name}: 1 of \d image files are not there, the first .*jpg"):
        make(name, root).setup("fit")


def test_a_list_that_torchvision_cannot_read(tmp_path: Path, write_photographs: Write) -> None:
    fgvc_aircraft(tmp_path, write_photographs)
    (tmp_path / "fgvc-aircraft-2013b" / "data" / "images_variant_val.txt").unlink()
    message = r"data=fgvc_aircraft: looked in .*aircraft-2013b. torchvision cannot read it: .*images_variant_val.txt"
    with pytest.raises(UserError, match=message):
        make("fgvc_aircraft", tmp_path).setup("fit")


def test_other_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.dataset=birdsnap: must be one of stanford_cars, flowers102, fgvc"):
        make("birdsnap", tmp_path)


BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


@pytest.fixture
def birds(tmp_path: Path, write_photographs: Write) -> Path:
    """Two birds, four photographs of each, of which the odd ones are for training."""
    base = tmp_path / "CUB_200_2011"
    files = []
    for bird in BIRDS:
        files += [f"{bird}/{Path(path).name}" for path in write_photographs(base / "images" / bird, 4)]
    lists = {
        "images.txt": files,
        "image_class_labels.txt": [BIRDS.index(name.partition("/")[0]) + 1 for name in files],
        "train_test_split.txt": [i % 2 for i in range(1, len(files) + 1)],
        "classes.txt": BIRDS,
    }
    for name, values in lists.items():
        (base / name).write_text("".join(f"{i} {value}\n" for i, value in enumerate(values, 1)))
    return tmp_path


def make_cub(root: Path) -> CUB200:
    data = CUB200(str(root), image_size=16, batch_size=2, workers=0)
    data.prepare_data()
    data.setup("fit")
    return data


def test_cub200_takes_its_splits_from_the_official_lists(birds: Path) -> None:
    data = make_cub(birds)
    assert data.class_names == ["Black_footed_Albatross", "Laysan_Albatross"]
    train, test = data.train_dataloader().listing, data.test_dataloader().listing
    assert [Path(path).name for path in train.paths] == ["0000.jpg", "0002.jpg"] * 2
    assert [Path(path).name for path in test.paths] == ["0001.jpg", "0003.jpg"] * 2
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == [0, 0, 1, 1]


def test_cub200_needs_no_training_images_to_test(birds: Path) -> None:
    remove_training_files(make_cub(birds))
    data = ready_to_test(CUB200(str(birds), image_size=16, workers=0, loader="torch", download=False))
    assert labels(data.test_dataloader()).tolist() == [0, 0, 1, 1]
    assert data.class_names == ["Black_footed_Albatross", "Laysan_Albatross"]


def test_cub200_is_downloaded_with_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda *args, **options: fetched.append((args, options)))
    CUB200(str(tmp_path)).prepare_data()
    url = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
    assert fetched == [((url, str(tmp_path)), {"md5": "97eceeb196236b17998738112f37df78"})]


def test_cub200_without_one_of_its_lists(birds: Path) -> None:
    (birds / "CUB_200_2011" / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"data=cub200: looked in .*CUB_200_2011 \(missing: classes.txt\)"):
        CUB200(str(birds), download=False).prepare_data()


def test_cub200_without_one_of_its_images(birds: Path) -> None:
    missing = birds / "CUB_200_2011" / "images" / BIRDS[1] / "0001.jpg"
    missing.unlink()
    with pytest.raises(UserError, match=rf"data=cub200: 1 of 4 image files are not there, the first {missing}"):
        make_cub(birds)


BREEDS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02085936-Maltese_dog")


def write_dog_list(path: Path, files: list[str]) -> None:
    """A list as its authors saved it: cells of strings and columns of numbers from 1."""
    cells = np.empty((len(files), 1), dtype=object)
    cells[:, 0] = files
    labels = np.array([[BREEDS.index(name.partition("/")[0]) + 1] for name in files], dtype=np.uint8)
    savemat(path, {"file_list": cells, "annotation_list": cells, "labels": labels})


@pytest.fixture
def dogs(tmp_path: Path, write_photographs: Write) -> Path:
    """Three breeds, five photographs of each, of which the first three are for training."""
    base = tmp_path / "stanford_dogs"
    files = []
    for breed in BREEDS:
        paths = write_photographs(base / "Images" / breed, 5)
        files += [f"{breed}/{Path(path).name}" for path in paths]
    write_dog_list(base / "train_list.mat", [name for i, name in enumerate(files) if i % 5 < 3])
    write_dog_list(base / "test_list.mat", [name for i, name in enumerate(files) if i % 5 >= 3])
    return tmp_path


def make_dogs(root: Path, **options) -> StanfordDogs:
    return StanfordDogs(str(root), image_size=16, batch_size=3, workers=0, **options)


def test_stanford_dogs_takes_its_splits_from_the_official_lists(dogs: Path) -> None:
    data = make_dogs(dogs)
    data.prepare_data()
    data.setup("fit")
    assert data.class_names == ["Chihuahua", "Japanese_spaniel", "Maltese_dog"]
    assert data.evaluated_on == "test"
    assert torch.cat([labels for _, labels in data.train_dataloader()]).bincount().tolist() == [3, 3, 3]
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == [0, 0, 1, 1, 2, 2]


def test_stanford_dogs_needs_no_training_images_to_test(dogs: Path) -> None:
    data = make_dogs(dogs)
    data.setup("fit")
    remove_training_files(data)
    data = ready_to_test(make_dogs(dogs, loader="torch", download=False))
    assert labels(data.test_dataloader()).tolist() == [0, 0, 1, 1, 2, 2]
    assert data.class_names == ["Chihuahua", "Japanese_spaniel", "Maltese_dog"]


def test_stanford_dogs_is_downloaded_with_its_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda *args, **options: fetched.append((args, options)))
    make_dogs(tmp_path).prepare_data()
    site, folder = "http://vision.stanford.edu/aditya86/ImageNetDogs", str(tmp_path / "stanford_dogs")
    assert fetched == [
        ((f"{site}/images.tar", folder), {"md5": "1bb1f2a596ae7057f99d7d75860002ef"}),
        ((f"{site}/lists.tar", folder), {"md5": "edbb9f16854ec66506b5f09b583e0656"}),
    ]


def test_stanford_dogs_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **options) -> None:
        raise OSError("no network")

    monkeypatch.setattr(utils, "download_and_extract_archive", fail)
    message = (
        r"data=stanford_dogs: looked in .*/stanford_dogs \(missing: Images, train_list.mat, test_list.mat\). "
        r"The download failed: no network. To fetch it by hand: unpack http://vision.stanford.edu/\S*/images.tar and "
        r"http://vision.stanford.edu/\S*/lists.tar in \S*/stanford_dogs   \(data=digits"
    )
    with pytest.raises(UserError, match=message):
        make_dogs(tmp_path).prepare_data()


def test_stanford_dogs_is_not_fetched_with_download_false(dogs: Path) -> None:
    (dogs / "stanford_dogs" / "test_list.mat").unlink()
    with pytest.raises(UserError, match=r"\(missing: test_list.mat\). data.download=false forbids fetching it"):
        make_dogs(dogs, download=False).prepare_data()
    with pytest.raises(UserError, match=r"\(missing: test_list.mat\). It was not fetched"):
        make_dogs(dogs).setup("fit")


def test_stanford_dogs_without_one_of_its_images(dogs: Path) -> None:
    missing = dogs / "stanford_dogs" / "Images" / BREEDS[1] / "0001.jpg"
    missing.unlink()
    with pytest.raises(UserError, match=rf"data=stanford_dogs: 1 of 9 image files are not there, the first {missing}"):
        make_dogs(dogs).setup("fit")
