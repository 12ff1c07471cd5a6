"""The bundle: a folder that is all that passes from training to serving.

What is checked where:

- `Bundle.open`: the sha256 of every file, the manifest's schema, the shapes of codebook and
  reference, and names, types and ranks of the graphs' inputs and outputs.
- `golden_check`, before an engine serves: that the graphs still compute what they computed at
  export. It finds what a recomputed digest hides: another weight, other channels.
- The writer, at export: `codebook_id` and `tokenizer_id` hash tensors of the checkpoint, which
  only `model.safetensors` holds. A reader does not load that file, so it takes the ids from the
  manifest; whoever writes `codebook.npy` and the ids must take both from one code table.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import BundleCorrupt
from vqtok.folders import write_folder
from vqtok.manifest import MANIFEST_FILE, Manifest
from vqtok.priors.spec import PRIOR_FILE
from vqtok.proof import DECODER_FILE, ENCODER_FILE, golden_check, with_probe
from vqtok.reference import REFERENCE_FILE, Reference
from vqtok.runtime.signature import check_decoder, check_encoder, check_prior

__all__ = ["Bundle", "Manifest", "Reference", "golden_check", "with_probe", "write_bundle"]

CODEBOOK_FILE = "codebook.npy"
REQUIRED_FILES = (ENCODER_FILE, DECODER_FILE, CODEBOOK_FILE, REFERENCE_FILE)


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle: every file has the digest that the manifest gives it.

    `codebook` is float32 (K, D) or (depth, K, D).
    """

    folder: Path
    manifest: Manifest
    codebook: NDArray[np.float32]
    reference: Reference

    @staticmethod
    def open(folder: Path | str) -> "Bundle":
        """Open and check a bundle.

        Raises:
            BundleCorrupt: a file is missing, has another digest, does not read, or its shape is
            not what the manifest says.
            BundleUnsupported: a schema or requirement that this vqtok does not know.
            RuntimeUnavailable: no onnxruntime to look into the graphs with.
        """
        folder = Path(folder)
        manifest = Manifest.from_json(_read_file(folder, MANIFEST_FILE))
        for name in REQUIRED_FILES:
            if name not in manifest.digests:
                raise BundleCorrupt(f"{MANIFEST_FILE} has no digest of {name}.")
        contents = {name: _verified(folder, manifest, name) for name in manifest.digests}
        reference = Reference.from_npz(contents[REFERENCE_FILE])
        reference.check_against(manifest)
        codebook = _read_codebook(contents[CODEBOOK_FILE], manifest)
        _check_graphs(manifest, contents)
        return Bundle(folder, manifest, codebook, reference)

    def read(self, name: str) -> bytes:
        """Bytes of one of the bundle's files, their digest verified once more.

        Raises:
            BundleCorrupt: not in the manifest, or changed since the bundle was opened.
        """
        if name not in self.manifest.digests:
            raise BundleCorrupt(f"{MANIFEST_FILE} has no digest of {name}.")
        return _verified(self.folder, self.manifest, name)


def write_bundle(
    folder: Path, manifest: Manifest, files: Mapping[str, bytes], *, replace: bool = False
) -> None:
    """Write a bundle so that a crash leaves the old folder or the new one, never half of one.

    `files` maps plain file names to contents and holds at least encoder.onnx, decoder.onnx,
    codebook.npy and reference.npz; the manifest's digests are computed here.

    Raises:
        ValueError: a required file is absent, or "manifest.json" is among `files`.
        FileExistsError: `folder` exists and `replace` is False.
    """
    absent = [name for name in REQUIRED_FILES if name not in files]
    if absent:
        raise ValueError(f"a bundle needs {', '.join(absent)}")
    if MANIFEST_FILE in files:
        raise ValueError(f"{MANIFEST_FILE} is written from the manifest")
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    document = {**manifest.to_dict(), "digests": digests}
    sealed = Manifest.from_json(Manifest.dump(document))
    write_folder(Path(folder), {**files, MANIFEST_FILE: sealed.to_json()}, replace=replace)


def codebook_npy(codebook: NDArray[Any]) -> bytes:
    """The bytes of `codebook.npy`: float32, little-endian, C order."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(codebook, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def _read_codebook(data: bytes, manifest: Manifest) -> NDArray[np.float32]:
    try:
        codebook: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleCorrupt(f"{CODEBOOK_FILE} does not read: {error}.") from None
    shape = (manifest.codebook_size, manifest.code_dim)
    shape = (manifest.depth, *shape) if manifest.depth > 1 else shape
    if codebook.dtype != np.float32 or codebook.shape != shape:
        raise BundleCorrupt(
            f"{CODEBOOK_FILE} is {codebook.dtype} {codebook.shape}; the manifest needs float32 "
            f"{shape}."
        )
    if not bool(np.isfinite(codebook).all()):
        raise BundleCorrupt(f"{CODEBOOK_FILE} holds values that are not finite.")
    return codebook


def _check_graphs(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    # Imported on use: a manifest or a set of tokens can be read without a runtime installed.
    from vqtok.runtime.onnx import read_signature

    checks = {ENCODER_FILE: check_encoder, DECODER_FILE: check_decoder}
    if manifest.prior is not None:
        checks[PRIOR_FILE] = check_prior
    for file, check in checks.items():
        if file not in contents:
            raise BundleCorrupt(f"{MANIFEST_FILE} has no digest of {file}.")
        check(read_signature(contents[file], file), manifest, file)


def _verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    data = _read_file(folder, name)
    if hashlib.sha256(data).hexdigest() != manifest.digests[name]:
        raise BundleCorrupt(
            f"{name} is not the file that {MANIFEST_FILE} describes: its sha256 differs. "
            "Copy or export the bundle again."
        )
    return data


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise BundleCorrupt(f"{name} is missing from the bundle {folder}.") from None
    except OSError as error:
        raise BundleCorrupt(f"{name} cannot be read: {error.strerror}.") from None
