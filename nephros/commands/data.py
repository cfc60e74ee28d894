"""nephros data: list, info, get, prepare and overlay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nephros.commands.messages import print_line, print_path, to_command_line
from nephros.commands.parser import (
    CHANNEL_HELP,
    DATA_HELP,
    GROUPS_HELP,
    LEVEL_HELP,
    MASK_HELP,
    SEGMENT_HELP,
    STITCH_HELP,
    VOXEL_SIZE_EXPECTED,
    WHITE_LEVEL_HELP,
    CommandParser,
    index_or_name,
    parse_numbers,
)

if TYPE_CHECKING:
    from nephros.data.load import DatasetSummary
    from nephros.microscopy.metadata import PreparationMetadata
    from nephros.workflows.prepare import PreparedStacks


def data_list(argv: list[str]) -> int:
    """nephros data list"""
    parser = CommandParser(
        "data list",
        "List MedMNIST's data sets: task, images per split, classes, channels and license. Each set of images is published at "
        "28, 64, 128 and 224 pixels per side; the six sets of volumes, for the recipe nephnet3d, at 28 and 64. synthetic, "
        "which needs no download, is a data set too.",
    )
    parser.parse_argv(argv)
    from nephros.console import table_console
    from nephros.data.load import find_local_file
    from nephros.data.medmnist import IMAGE_SIZES, MEDMNIST
    from nephros.text_tables import terminal_table

    rows = []
    for info in MEDMNIST.values():
        local = ", ".join(str(size) for size in info.md5 if find_local_file(info.key, size))
        task = info.task if info.supported else f"{info.task} (not supported)"
        sizes = [f"{n:,}" for n in info.split_sizes]
        channels = "volumes" if info.is_volumetric else str(info.channels)
        rows.append([info.key, task, *sizes, str(len(info.class_names)), channels, info.license, local])
    numeric = ("train", "val", "test", "classes", "channels")
    headers = ("name", "task", *numeric, "license", "on this machine (pixels)")
    title = f"MedMNIST; sizes: {', '.join(map(str, IMAGE_SIZES))} pixels, volumes 28, 64"
    table_console().print(terminal_table(title, headers, rows, numeric=numeric))
    return 0


def data_info(argv: list[str]) -> int:
    """nephros data info"""
    parser = CommandParser(
        "data info", "Describe a data set: its source, the size of its images, and the images per class and split."
    )
    parser.add_argument("source", help=DATA_HELP)
    parser.option(
        "size", "pixels per side: 28, 64, 128 or 224 (default: 28), or what a folder's images are resized to", int
    )
    parser.option("white-level", WHITE_LEVEL_HELP, float, "VALUE")
    parser.option("channel", CHANNEL_HELP, int)
    parser.option("groups", GROUPS_HELP)
    args = parser.parse_argv(argv)
    from nephros.data.load import describe, load_dataset

    _print_summary(describe(load_dataset(args.pop("source"), **args)))
    return 0


def _print_summary(summary: DatasetSummary) -> None:
    from nephros.console import table_console
    from nephros.data.dataset import format_size
    from nephros.text_tables import terminal_table

    console = table_console()
    size = format_size(*summary.image_size, summary.channels, summary.depth)
    console.print(f"{summary.title}: {summary.task}, {size}")
    for name in ("path", "sha256", "detail", "license"):
        if value := getattr(summary, name):
            console.print(f"{name}: {value}")
    console.print(f"training pixels: mean {summary.pixel_mean:.4f}, std {summary.pixel_std:.4f} (from 0 to 1)")
    rows = [
        [str(label), class_name, *(f"{counts[label]:,}" for counts in summary.class_counts.values())]
        for label, class_name in enumerate(summary.class_names)
    ]
    rows.append(["", "all", *(f"{n:,}" for n in summary.split_sizes.values())])
    splits = list(summary.split_sizes)
    console.print(terminal_table("", ["class", "name", *splits], rows, numeric=splits))
    for warning in summary.warnings:
        console.print(f"warning: {to_command_line(warning)}")


def data_get(argv: list[str]) -> int:
    """nephros data get"""
    parser = CommandParser(
        "data get",
        "Download a MedMNIST data set to the cache folder, and verify its MD5 checksum. An interrupted download resumes.",
    )
    parser.add_argument("name", help="a MedMNIST name, such as tissuemnist")
    parser.option("size", "pixels per side: 28, 64, 128 or 224 (default: 28)", int)
    args = parser.parse_argv(argv)
    from nephros.data.download import download, show_download_progress

    with show_download_progress(args["name"]) as progress:
        path = download(args["name"], args.get("size") or 28, progress=progress)
    print_path(path)
    return 0


def data_prepare(argv: list[str]) -> int:
    """nephros data prepare"""
    parser = _prepare_parser()
    args = parser.parse_argv(argv)
    from nephros.workflows.prepare import prepare

    for name in ("voxel_size", "target_voxel_size"):
        if name in args:
            args[name] = parse_numbers(name, args[name], 3, VOXEL_SIZE_EXPECTED)
    if "percentiles" in args:
        expected = "two ascending numbers from 0 to 100, such as 1,99.8"
        args["percentiles"] = parse_numbers("percentiles", args["percentiles"], 2, expected)
    args["resample"] = not args.pop("no_resample", False)
    result = prepare(args.pop("stack"), args.pop("out"), **args)
    if len(result.stacks) == 1:
        _print_metadata(result.metadata)
    else:
        _print_stacks(result)
    for note in result.notes:
        print_line(f"note: {to_command_line(note)}")
    for path in result.paths:
        print_path(path)
    return 0


def _prepare_parser() -> CommandParser:
    parser = CommandParser(
        "data prepare",
        "Crop the nuclei from a 3-D fluorescence stack as was done for TissueMNIST: 32x32x7 voxels around each centroid, maximum "
        "over the slices, 28x28 pixels, 8 bits.\n\n"
        "Writes FILE.npz for `nephros predict`, FILE.csv with centroids and volumes, and FILE.json with the settings:\n\n"
        "  nephros data prepare kidney.ome.tif --channel 0 --mask nuclei.tif --out cells.npz\n\n"
        "Voxel size: crops are resampled to the training data's, so the stack's must be known.\n\n"
        "Intensity: one black level and one white level for the whole stack become 0 and 255. By default the black level is a "
        "percentile, and the white level is fitted to bring the mean and standard deviation of the crops near TissueMNIST's.\n\n"
        "Border: a crop is black where it extends beyond the stack. The column at_border marks such nuclei and those that the "
        "stack's edge cuts; --drop-border leaves them out.\n\n"
        "Several stacks become one file, in which each nucleus has its stack and, with --patient, its patient; `nephros "
        "train` and `nephros finetune` split by these. {stem} stands for the name of each stack without its suffix:\n\n"
        "  nephros data prepare K4.tif K5.tif K6.tif --mask '{stem}_mask.tif' --classes '{stem}.csv' --out cells.npz",
    )
    parser.add_argument(
        "stack",
        nargs="+",
        metavar="STACK",
        help="TIFF, OME-TIFF or .npy, where the pages of a multi-page TIFF are slices; an OME-Zarr store, also behind an "
        "https:// or s3:// URL; a CZI, ND2, LIF or IMS file; or a folder with an image file per slice and channel, named such "
        "as img_z001_c1.tif",
    )
    parser.option("mask", MASK_HELP, metavar="MASK")
    parser.option("segment", SEGMENT_HELP, metavar="NAME")
    parser.option("stitch-threshold", STITCH_HELP, float, "SHARE")
    parser.required_option("out", "the file for the images", "FILE.npz")
    parser.option(
        "channel",
        "number (from 0) or name of the channel with the nuclei; required if there are several",
        index_or_name,
    )
    parser.option(
        "image",
        "number (from 0) or name of the image in a file that holds several (default: the only one with several slices, else the "
        "first)",
        index_or_name,
    )
    parser.option(
        "axes",
        "order of the file's dimensions, such as ZYX for slices that were saved as channels (default: as the file says)",
        metavar="ZCYX",
    )
    parser.option("level", LEVEL_HELP, index_or_name)
    parser.option("time-point", "number of the time point, from 0, in a time series", int)
    parser.option(
        "voxel-size",
        "voxel size of the stack in micrometers, at the finest level of a pyramid; required if the file doesn't state it",
        metavar="Z,Y,X",
    )
    parser.option(
        "target-voxel-size",
        "voxel size that crops are resampled to (default: 1,0.5,0.5, assumed for the training data, whose authors' figure could "
        "not be found)",
        metavar="Z,Y,X",
    )
    parser.flag("no-resample", "use the stack's voxels as they are, whatever their size")
    parser.option("black-level", "intensity that becomes 0 (default: fitted)", float, "VALUE")
    parser.option("white-level", "intensity that becomes 255 (default: fitted)", float, "VALUE")
    parser.option(
        "percentiles",
        "percentiles of the stack's voxels that become 0 and 255, instead of the two levels",
        metavar="LOW,HIGH",
    )
    parser.flag("drop-border", "leave out nuclei at the border")
    parser.option(
        "min-volume",
        "leave out smaller nuclei, such as debris: cubic micrometers, or voxels if the voxel size is unknown",
        float,
        "VOLUME",
    )
    parser.flag(
        "volumes",
        "keep the 32x32x7 voxels of each nucleus instead of their maximum over the slices, to train a network of volumes: "
        "nephros train nephnet3d --data FILE.npz",
    )
    parser.class_table_options()
    return parser


def _print_metadata(metadata: PreparationMetadata) -> None:
    """Print how the images were made, and the warnings."""
    from nephros.console import table_console
    from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
    from nephros.microscopy.voxel_size import format_voxel_size

    console = table_console()
    counts, limits = metadata.nuclei, metadata.contrast_limits
    dropped_text = f", {counts.dropped:,} left out" if counts.dropped else ""
    if counts.too_small:
        dropped_text += (
            f", {counts.too_small:,} of them smaller than {metadata.min_volume:g} {metadata.min_volume_unit}"
        )
    console.print(f"nuclei: {counts.kept:,} ({counts.at_border:,} of {counts.segmented:,} at the border{dropped_text})")
    source = metadata.voxel_size_source.replace("voxel_size parameter", "--voxel-size")
    console.print(f"voxel size (z, y, x): {format_voxel_size(metadata.voxel_size_um)} ({source})")
    if metadata.target_voxel_size_um is None:
        console.print("resampled: no, the stack's voxels are used as they are")
    elif metadata.resampling_step == (1, 1, 1):
        console.print(
            "resampled: no, the stack's voxels are as large as those of the crops "
            f"({to_command_line(metadata.target_voxel_size_source or '')})"
        )
    else:
        step = " x ".join(f"{ratio:.3g}" for ratio in metadata.resampling_step)
        console.print(
            f"resampled to: {format_voxel_size(metadata.target_voxel_size_um)}, {step} of the stack's voxels each "
            f"({to_command_line(metadata.target_voxel_size_source or '')})"
        )
    console.print(
        f"intensity: {limits.black_level:,.6g} becomes 0 (percentile {limits.black_percentile:.4g} of the stack's voxels) and "
        f"{limits.white_level:,.6g} becomes 255 (percentile {limits.white_percentile:.5g})"
    )
    console.print(f"rule: {limits.rule}")
    console.print(
        f"pixels of the crops: mean {limits.pixel_mean:.3f}, std {limits.pixel_std:.3f} "
        f"(TissueMNIST: {PIXEL_MEAN:.3f} and {PIXEL_STD:.3f})"
    )
    if metadata.class_labels:
        names = ", ".join(metadata.class_labels.class_names)
        console.print(f"classes: {names} ({metadata.class_labels.n_labeled:,} of {counts.kept:,} nuclei have one)")
    for warning in metadata.warnings:
        console.print(f"warning: {to_command_line(warning)}")


def _print_stacks(result: PreparedStacks) -> None:
    """Print how the images of several stacks were made, and the warnings of each."""
    from nephros.console import table_console
    from nephros.microscopy.voxel_size import format_voxel_size
    from nephros.text_tables import terminal_table

    rows = [
        [
            name,
            f"{metadata.nuclei.kept:,}",
            f"{metadata.class_labels.n_labeled:,}" if metadata.class_labels else "",
            f"{metadata.nuclei.at_border:,}",
            format_voxel_size(metadata.voxel_size_um).removesuffix(" micrometers"),
            f"{metadata.contrast_limits.black_level:,.6g} to {metadata.contrast_limits.white_level:,.6g}",
        ]
        for name, metadata in zip(dict.fromkeys(result.stack.tolist()), result.stacks, strict=True)
    ]
    numeric = ("nuclei", "with a class", "at the border")
    headers = ("stack", *numeric, "voxel size (z, y, x)", "intensities")
    title = f"{len(result.ids):,} nuclei of {len(result.stacks)} stacks"
    table_console().print(terminal_table(title, headers, rows, numeric=numeric))
    for warning in result.warnings:
        print_line(f"warning: {to_command_line(warning)}")


def data_overlay(argv: list[str]) -> int:
    """nephros data overlay"""
    parser = CommandParser(
        "data overlay",
        "Paint predicted classes over the maximum projection of the stack that the nuclei came from, with a legend that counts "
        "them. Outlines of nuclei that are out of distribution are dashed.\n\n"
        "Example, after `nephros data prepare kidney.ome.tif --out cells.npz`:\n\n"
        "  nephros predict cells.npz --out predictions.csv\n"
        "  nephros data overlay cells.json --predictions predictions.csv --out tissue.png --html",
    )
    parser.add_argument(
        "metadata_path", metavar="METADATA.json", help="metadata that `nephros data prepare` wrote beside the npz file"
    )
    parser.required_option("predictions", "table that `nephros predict` wrote for the npz file", "CSV")
    parser.required_option("out", "the image to write, .png or .tif", "IMAGE")
    parser.flag(
        "html",
        "also write a page to pan and zoom beside the image, tissue.html for tissue.png: hide classes, click a nucleus for its "
        "prediction. One file, which requests nothing",
    )
    moved = "where the unchanged {} is now (default: where it was, or the same file near METADATA.json)"
    parser.option("stack", moved.format("stack"))
    parser.option("mask", moved.format("mask"))
    args = parser.parse_argv(argv)
    from nephros.workflows.overlay import overlay

    image = overlay(**args)
    print_path(image)
    if args.get("html"):
        print_path(image.with_suffix(".html"))
    return 0
