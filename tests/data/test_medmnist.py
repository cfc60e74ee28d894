"""The catalogue against what MedMNIST's papers say of the sets, and its file names and addresses."""

from __future__ import annotations

import re

import pytest

from nephros.data.medmnist import CATALOGUE, SIZES, find
from nephros.errors import UserError

# Images, classes and channels of each set; MedMNIST v2's table 2 with the organ sets' counts as v3 corrected them.
PUBLISHED = {
    "pathmnist": (107_180, 9, 3),
    "chestmnist": (112_120, 14, 1),
    "dermamnist": (10_015, 7, 3),
    "octmnist": (109_309, 4, 1),
    "pneumoniamnist": (5_856, 2, 1),
    "retinamnist": (1_600, 5, 3),
    "breastmnist": (780, 2, 1),
    "bloodmnist": (17_092, 8, 3),
    "tissuemnist": (236_386, 8, 1),
    "organamnist": (58_830, 11, 1),
    "organcmnist": (23_583, 11, 1),
    "organsmnist": (25_211, 11, 1),
}


def test_every_set_has_its_published_images_classes_and_channels() -> None:
    found = {key: (sum(entry.counts), len(entry.class_names), entry.channels) for key, entry in CATALOGUE.items()}
    assert found == PUBLISHED


def test_every_file_has_an_md5_of_its_own() -> None:
    sums = [entry.md5[size] for entry in CATALOGUE.values() for size in SIZES]
    assert len(set(sums)) == 48
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)
    assert all(tuple(entry.md5) == SIZES for entry in CATALOGUE.values())


def test_names_and_keys_agree() -> None:
    assert all(entry.name.lower() == entry.key == key for key, entry in CATALOGUE.items())
    assert all(len(set(entry.class_names)) == len(entry.class_names) for entry in CATALOGUE.values())


def test_tissuemnist_is_as_published() -> None:
    entry = find("tissuemnist")
    assert entry.name == "TissueMNIST"
    assert entry.task == "multi-class"
    assert entry.counts == (165_466, 23_640, 47_280)
    assert entry.md5[28] == "ebe78ee8b05294063de985d821c1c34b"
    assert entry.licence == "CC BY 4.0"
    assert entry.class_names == (
        "Collecting Duct, Connecting Tubule",
        "Distal Convoluted Tubule",
        "Glomerular endothelial cells",
        "Interstitial endothelial cells",
        "Leukocytes",
        "Podocytes",
        "Proximal Tubule Segments",
        "Thick Ascending Limb",
    )


def test_only_dermamnist_forbids_commercial_use() -> None:
    assert {key: entry.licence for key, entry in CATALOGUE.items() if entry.licence != "CC BY 4.0"} == {
        "dermamnist": "CC BY-NC 4.0"
    }


def test_only_the_multi_label_set_is_unsupported() -> None:
    assert [key for key, entry in CATALOGUE.items() if not entry.supported] == ["chestmnist"]
    assert find("retinamnist").task == "ordinal-regression"
    assert find("breastmnist").task == find("pneumoniamnist").task == "binary-class"


@pytest.mark.parametrize(("size", "name"), [(28, "tissuemnist.npz"), (64, "tissuemnist_64.npz")])
def test_file_names_and_addresses(size: int, name: str) -> None:
    entry = find("tissuemnist")
    assert entry.filename(size) == name
    assert entry.urls(size) == (
        f"https://zenodo.org/records/10519652/files/{name}?download=1",
        f"https://zenodo.org/api/records/10519652/files/{name}/content",
    )


def test_an_unpublished_size_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match="published at 28, 64, 128, 224 pixels, not at 32"):
        find("tissuemnist").urls(32)


def test_find_takes_any_case_and_hints_at_the_nearest_name() -> None:
    assert find("TissueMNIST") is CATALOGUE["tissuemnist"]
    with pytest.raises(UserError, match=r"called 'TisueMNIST'\. Did you mean 'tissuemnist'"):
        find("TisueMNIST")
    with pytest.raises(UserError, match=r"called 'xyz'\. Choose from pathmnist, chestmnist"):
        find("xyz")
