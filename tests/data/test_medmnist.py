"""The list of MedMNIST data sets, compared with MedMNIST's papers; file names and addresses."""

from __future__ import annotations

import re

import pytest

from nephros.data.medmnist import IMAGE_SIZES, MEDMNIST, get_info
from nephros.errors import InvalidArgument, UnknownName

# Images, classes and channels: table 2 of MedMNIST v2, with the counts of the organ data sets as corrected in v3.
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
    "organmnist3d": (1_742, 11, 1),
    "nodulemnist3d": (1_633, 2, 1),
    "adrenalmnist3d": (1_584, 2, 1),
    "fracturemnist3d": (1_370, 3, 1),
    "vesselmnist3d": (1_908, 2, 1),
    "synapsemnist3d": (1_759, 2, 1),
}


def test_images_classes_and_channels_are_the_published_ones() -> None:
    actual = {key: (sum(info.split_sizes), len(info.class_names), info.channels) for key, info in MEDMNIST.items()}
    assert actual == PUBLISHED


def test_every_file_has_a_unique_md5() -> None:
    sums = [md5 for info in MEDMNIST.values() for md5 in info.md5.values()]
    assert len(set(sums)) == 12 * 4 + 6 * 2
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)
    assert all(tuple(info.md5) == IMAGE_SIZES[: 2 if info.is_volumetric else 4] for info in MEDMNIST.values())
    assert [key for key, info in MEDMNIST.items() if info.is_volumetric] == [key for key in PUBLISHED if "3d" in key]


def test_names_and_keys_agree() -> None:
    assert all(info.name.lower() == info.key == key for key, info in MEDMNIST.items())
    assert all(len(set(info.class_names)) == len(info.class_names) for info in MEDMNIST.values())


def test_tissuemnist_is_as_published() -> None:
    info = get_info("tissuemnist")
    assert info.name == "TissueMNIST"
    assert info.task == "multi-class"
    assert info.split_sizes == (165_466, 23_640, 47_280)
    assert info.md5[28] == "ebe78ee8b05294063de985d821c1c34b"
    assert info.license == "CC BY 4.0"
    assert info.class_names == (
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
    assert {key: info.license for key, info in MEDMNIST.items() if info.license != "CC BY 4.0"} == {
        "dermamnist": "CC BY-NC 4.0"
    }


def test_only_the_multi_label_set_is_unsupported() -> None:
    assert [key for key, info in MEDMNIST.items() if not info.supported] == ["chestmnist"]
    assert get_info("retinamnist").task == "ordinal-regression"
    assert get_info("breastmnist").task == get_info("pneumoniamnist").task == "binary-class"


@pytest.mark.parametrize(("size", "name"), [(28, "tissuemnist.npz"), (64, "tissuemnist_64.npz")])
def test_file_names_and_addresses(size: int, name: str) -> None:
    info = get_info("tissuemnist")
    assert info.filename(size) == name
    assert info.urls(size) == (
        f"https://zenodo.org/records/10519652/files/{name}?download=1",
        f"https://zenodo.org/api/records/10519652/files/{name}/content",
    )


def test_an_unpublished_size_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="28, 64, 128 or 224") as exc_info:
        get_info("tissuemnist").urls(32)
    assert (exc_info.value.parameter, exc_info.value.value) == ("size", 32)


def test_names_match_in_any_case_and_the_nearest_is_suggested() -> None:
    assert get_info("TissueMNIST") is MEDMNIST["tissuemnist"]
    with pytest.raises(UnknownName, match=r"'tisuemnist'\. Did you mean 'tissuemnist'"):
        get_info("TisueMNIST")
    with pytest.raises(UnknownName, match=r"'xyz'\. Choose from pathmnist, chestmnist"):
        get_info("xyz")
