"""The twelve 2-D MedMNIST sets: classes, counts, licences, file names, MD5 sums and download addresses.

The numbers, labels and MD5 sums are those that the ``medmnist`` package publishes for MedMNIST v3, whose files are
Zenodo record 10519652. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nephros.errors import NephrosError, did_you_mean

IMAGE_SIZES = (28, 64, 128, 224)
"""Edge lengths, in pixels, in which every set is published."""

ZENODO_RECORD = "10519652"
"""The Zenodo record that holds every file."""


@dataclass(frozen=True)
class MedMNISTInfo:
    """One published set: what is in it and where its files are."""

    key: str
    """Lower case, also the file name's stem: ``tissuemnist``."""
    name: str
    """For people: ``TissueMNIST``."""
    subject: str
    """What the images show, in one phrase."""
    task: str
    """MedMNIST's word: ``multi-class``, ``binary-class``, ``ordinal-regression`` or ``multi-label, binary-class``."""
    class_names: tuple[str, ...]
    """In label order."""
    channels: int
    """1 for grey, 3 for colour."""
    split_sizes: tuple[int, int, int]
    """Images in train, val and test; the same at every size."""
    license: str
    """Of the images; ``CC BY-NC 4.0`` forbids commercial use."""
    md5: Mapping[int, str]
    """Edge length in pixels -> hexadecimal MD5 of that size's file."""

    @property
    def supported(self) -> bool:
        """False where an image may have several labels at once: nephros trains single-label classifiers only."""
        return not self.task.startswith("multi-label")

    def filename(self, size: int = 28) -> str:
        """Return the published file name: ``tissuemnist.npz`` at 28 pixels, ``tissuemnist_64.npz`` at 64.

        Raises UserError for a size that isn't published.
        """
        if size not in IMAGE_SIZES:
            raise NephrosError(f"{self.name} is published at {', '.join(map(str, IMAGE_SIZES))} pixels, not at {size}.")
        return f"{self.key}.npz" if size == 28 else f"{self.key}_{size}.npz"

    def urls(self, size: int = 28) -> tuple[str, ...]:
        """Return the addresses to try, in order; both are Zenodo's, the second through its API.

        Raises UserError for a size that isn't published.
        """
        filename = self.filename(size)
        return (
            f"https://zenodo.org/records/{ZENODO_RECORD}/files/{filename}?download=1",
            f"https://zenodo.org/api/records/{ZENODO_RECORD}/files/{filename}/content",
        )


def get_info(key: str) -> MedMNISTInfo:
    """Return the entry called `key`, in any case; raise UserError, with the nearest name, where there is none."""
    info = MEDMNIST.get(key.lower())
    if info is None:
        suggestion = did_you_mean(key.lower(), MEDMNIST) or f" Choose from {', '.join(MEDMNIST)}."
        raise NephrosError(f"There is no MedMNIST set called '{key}'.{suggestion}")
    return info


_ORGAN_NAMES = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

_INFOS = (
    MedMNISTInfo(
        key="pathmnist",
        name="PathMNIST",
        subject="tissue types in colorectal cancer histology",
        task="multi-class",
        class_names=(
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        channels=3,
        split_sizes=(89996, 10004, 7180),
        license="CC BY 4.0",
        md5={
            28: "a8b06965200029087d5bd730944a56c1",
            64: "55aa9c1e0525abe5a6b9d8343a507616",
            128: "ac42d08fb904d92c244187169d1fd1d9",
            224: "2c51a510bcdc9cf8ddb2af93af1eadec",
        },
    ),
    MedMNISTInfo(
        key="chestmnist",
        name="ChestMNIST",
        subject="findings in frontal chest X-rays, several an image",
        task="multi-label, binary-class",
        class_names=(
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        channels=1,
        split_sizes=(78468, 11219, 22433),
        license="CC BY 4.0",
        md5={
            28: "02c8a6516a18b556561a56cbdd36c4a8",
            64: "9de6cd0b934ebb5b7426cfba5efbae16",
            128: "db107e5590b27930b62dbaf558aebee3",
            224: "45bd33e6f06c3e8cdb481c74a89152aa",
        },
    ),
    MedMNISTInfo(
        key="dermamnist",
        name="DermaMNIST",
        subject="pigmented skin lesions under the dermatoscope",
        task="multi-class",
        class_names=(
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        channels=3,
        split_sizes=(7007, 1003, 2005),
        license="CC BY-NC 4.0",
        md5={
            28: "0744692d530f8e62ec473284d019b0c7",
            64: "b70a2f5635c6199aeaa28c31d7202e1f",
            128: "2defd784463fa5243564e855ed717de1",
            224: "8974907d8e169bef5f5b96bc506ae45d",
        },
    ),
    MedMNISTInfo(
        key="octmnist",
        name="OCTMNIST",
        subject="retinal disease in optical coherence tomography",
        task="multi-class",
        class_names=("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        channels=1,
        split_sizes=(97477, 10832, 1000),
        license="CC BY 4.0",
        md5={
            28: "c68d92d5b585d8d81f7112f81e2d0842",
            64: "e229e9440236b774d9f0dfef9d07bdaf",
            128: "0a97e76651ace45c5d943ee3f65b63ae",
            224: "abc493b6d529d5de7569faaef2773ba3",
        },
    ),
    MedMNISTInfo(
        key="pneumoniamnist",
        name="PneumoniaMNIST",
        subject="pneumonia in children's chest X-rays",
        task="binary-class",
        class_names=("normal", "pneumonia"),
        channels=1,
        split_sizes=(4708, 524, 624),
        license="CC BY 4.0",
        md5={
            28: "28209eda62fecd6e6a2d98b1501bb15f",
            64: "8f4eceb4ccffa70c672198ea285246c6",
            128: "05b46931834c231683c68f40c47b2971",
            224: "d6a3c71de1b945ea11211b03746c1fe1",
        },
    ),
    MedMNISTInfo(
        key="retinamnist",
        name="RetinaMNIST",
        subject="grade of diabetic retinopathy in fundus photographs",
        task="ordinal-regression",
        class_names=("0", "1", "2", "3", "4"),
        channels=3,
        split_sizes=(1080, 120, 400),
        license="CC BY 4.0",
        md5={
            28: "bd4c0672f1bba3e3a89f0e4e876791e4",
            64: "afda852cc34dcda56f86ad2b2457dbcc",
            128: "e48e916a24454daf90583d4e6efb1a18",
            224: "eae7e3b6f3fcbda4ae613ebdcbe35348",
        },
    ),
    MedMNISTInfo(
        key="breastmnist",
        name="BreastMNIST",
        subject="malignant or other breast ultrasound",
        task="binary-class",
        class_names=("malignant", "normal, benign"),
        channels=1,
        split_sizes=(546, 78, 156),
        license="CC BY 4.0",
        md5={
            28: "750601b1f35ba3300ea97c75c52ff8f6",
            64: "742edef2a1fd1524b2efff4bd7ba9364",
            128: "363e4b3f8d712e9b5de15470a2aaadf1",
            224: "b56378a6eefa9fed602bb16d192d4c8b",
        },
    ),
    MedMNISTInfo(
        key="bloodmnist",
        name="BloodMNIST",
        subject="single blood cells under the microscope",
        task="multi-class",
        class_names=(
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        channels=3,
        split_sizes=(11959, 1712, 3421),
        license="CC BY 4.0",
        md5={
            28: "7053d0359d879ad8a5505303e11de1dc",
            64: "2b94928a2ae4916078ca51e05b6b800b",
            128: "adace1e0ed228fccda1f39692059dd4c",
            224: "b718ff6835fcbdb22ba9eacccd7b2601",
        },
    ),
    MedMNISTInfo(
        key="tissuemnist",
        name="TissueMNIST",
        subject="nuclei of human kidney cortex, fluorescence microscopy",
        task="multi-class",
        class_names=(
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        channels=1,
        split_sizes=(165466, 23640, 47280),
        license="CC BY 4.0",
        md5={
            28: "ebe78ee8b05294063de985d821c1c34b",
            64: "123ece2eba09d0aa5d698fda57103344",
            128: "61b955355d7425a89687b06cca3ce0c2",
            224: "b077128c4a949f0a4eb01517f9037b9c",
        },
    ),
    MedMNISTInfo(
        key="organamnist",
        name="OrganAMNIST",
        subject="abdominal organs in axial CT slices",
        task="multi-class",
        class_names=_ORGAN_NAMES,
        channels=1,
        split_sizes=(34561, 6491, 17778),
        license="CC BY 4.0",
        md5={
            28: "68e3f8846a6bd62f0c9bf841c0d9eacc",
            64: "2dcccc29b88e6da5a01161ef20cda288",
            128: "eeae80d0a227a8d099027e1b3cfd3b60",
            224: "50747347e05c87dd3aaf92c49f9f3170",
        },
    ),
    MedMNISTInfo(
        key="organcmnist",
        name="OrganCMNIST",
        subject="abdominal organs in coronal CT slices",
        task="multi-class",
        class_names=_ORGAN_NAMES,
        channels=1,
        split_sizes=(12975, 2392, 8216),
        license="CC BY 4.0",
        md5={
            28: "b9ceb9546e10131b32923c5bbeaea2b1",
            64: "3ce34a8724ea6f548e6db4744d03b6a9",
            128: "773c1f009daa3fe5d9a2a201b2a7ed94",
            224: "050f5e875dc056f6768abf94ec9995d1",
        },
    ),
    MedMNISTInfo(
        key="organsmnist",
        name="OrganSMNIST",
        subject="abdominal organs in sagittal CT slices",
        task="multi-class",
        class_names=_ORGAN_NAMES,
        channels=1,
        split_sizes=(13932, 2452, 8827),
        license="CC BY 4.0",
        md5={
            28: "9ab87b696fb54e2a387ebe992d6ed5f1",
            64: "53a6d115339d874c25e309a994ff46d3",
            128: "ded0c5fa01a95dc4978b956f613e9b8e",
            224: "b354719e553fbbb2513d5533f52a4cb1",
        },
    ),
)

MEDMNIST: dict[str, MedMNISTInfo] = {entry.key: entry for entry in _INFOS}
"""Key -> entry, in MedMNIST's own order."""
