"""The command `vqtok calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from vqtok.bundle import Bundle
from vqtok.calibration import calibrate as calibrated
from vqtok.calibration import require_enough, write_calibrated
from vqtok.command_options import DeviceOption, encode_files, image_files, with_bar
from vqtok.errors import InvalidParameter
from vqtok.images import PREPROCESS
from vqtok.tokenizer import Tokenizer


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    folder: Annotated[Path, typer.Argument(help="Images as the service will get them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle to write.")],
    device: DeviceOption = "auto",
    preprocess: Annotated[
        str, typer.Option(help=f"As callers will ask for it: {', '.join(PREPROCESS)}.")
    ] = "pad",
    replace: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Write a copy of a bundle that raises an alarm when images are no longer like these."""
    if output.exists() and not replace:
        raise InvalidParameter(f"{output} exists; --replace writes it anew.")
    opened = Bundle.open(bundle)
    files = list(image_files([folder]))
    require_enough(len(files), 0, opened.manifest)
    with Tokenizer.open(bundle, device) as tokenizer:
        batch = encode_files(tokenizer, files, preprocess)
    calibration = calibrated(opened.manifest, batch, with_bar)
    origin = {"preprocess": preprocess, "other_grids": calibration.other_grids}
    write_calibrated(opened, calibration, origin, output, overwrite=replace)
    least, most = calibration.null.range
    typer.echo(
        f"{output} is written: drift is judged in windows of {least} to {most} images, against the "
        f"tokens of {calibration.reference_images} images."
    )
