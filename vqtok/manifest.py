"""The one file that knows the JSON of a bundle's manifest.

The schema is `major.minor`. A reader takes any minor of its major and ignores optional fields it
does not know; what must not be ignored stands in `requires`, and an unknown name there is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from vqtok.errors import BundleCorrupt, BundleUnsupported
from vqtok.fields import Fields
from vqtok.identity import ContentId
from vqtok.priors.spec import PriorSpec

SCHEMA_VERSION = "1.0"
KNOWN_REQUIREMENTS = frozenset({"tileable"})
MANIFEST_FILE = "manifest.json"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageSpec:
    """What the encoder takes: uint8 RGB whose sides are multiples of `factor`.

    `native_size` is the (height, width) it was trained at.
    """

    channels: int
    factor: int
    native_size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle is, without its weights.

    `grid` is the shape of the tokens of one image of native size: (h, w), or (h, w, depth) when
    `depth` > 1. `encoder_halo` (pixels, a multiple of the factor) and `decoder_halo` (grid cells)
    are the context that a tile needs on each side to come out as it does in the whole image.
    `outputs` names the encoder's outputs: "tokens" and "margins", and perhaps
    "quantisation_error" and "posterior_entropy". `digests` (file name -> sha256) is filled in by
    `write_bundle`. `prior` says how prior.onnx is used, None in a bundle without it.

    Raises:
        BundleCorrupt: on construction, when two fields contradict each other.
    """

    name: str
    version: str
    method: str
    image: ImageSpec
    grid: tuple[int, ...]
    depth: int
    codebook_size: int
    code_dim: int
    outputs: tuple[str, ...]
    precision: str
    encoder_halo: int
    decoder_halo: int
    codebook_id: ContentId
    tokenizer_id: ContentId
    schema_version: str = SCHEMA_VERSION
    requires: Mapping[str, Any] = field(default_factory=dict[str, Any])
    prior: PriorSpec | None = None
    memory: Mapping[str, float] = field(default_factory=dict[str, float])
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    parity: Mapping[str, Any] = field(default_factory=dict[str, Any])
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_id", ContentId(self.codebook_id))
        object.__setattr__(self, "tokenizer_id", ContentId(self.tokenizer_id))
        _check_requirements(self.requires)
        for complaint in _contradictions(self):
            raise _corrupt(complaint)

    @property
    def full_name(self) -> str:
        """`name@version`, as the service accepts and returns it."""
        return f"{self.name}@{self.version}"

    @property
    def tileable(self) -> bool:
        """Whether a large image may be cut in tiles; False for networks with global layers."""
        return self.requires.get("tileable", True) is not False

    def grid_of(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of the tokens of an image whose sides are multiples of the factor."""
        factor = self.image.factor
        return (height // factor, width // factor, *self.grid[2:])

    def to_json(self) -> bytes:
        """The manifest's file: indented, fields in the order of this class."""
        return Manifest.dump(self.to_dict())

    @staticmethod
    def dump(document: Mapping[str, Any]) -> bytes:
        """The bytes of a manifest that is at hand as plain values, as `to_dict` gives it."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
        return orjson.dumps(document, option=options)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, `schema_version` first."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        image = {
            "channels": self.image.channels,
            "factor": self.image.factor,
            "native_size": list(self.image.native_size),
        }
        plain = {name: _plain(value) for name, value in fields.items() if value is not None}
        return {"schema_version": self.schema_version, **plain, "image": image}

    @staticmethod
    def from_json(data: bytes) -> "Manifest":
        """Read a manifest; unknown optional fields are left out.

        Raises:
            BundleCorrupt: broken JSON, a missing field, a field of a wrong type or value.
            BundleUnsupported: another major schema version, or an unknown name in `requires`.
        """
        try:
            document: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise _corrupt(f"is no JSON ({error})") from None
        if not isinstance(document, dict):
            raise _corrupt("must be a JSON object")
        fields = Fields(cast("dict[str, Any]", document), MANIFEST_FILE)
        _check_schema(fields.text("schema_version"))
        _check_requirements(fields.mapping("requires"))
        return _read(fields)


def _read(fields: Fields) -> Manifest:
    image = fields.nested("image")
    native_size = image.counts("native_size")
    if len(native_size) != 2:
        raise _corrupt("has an image.native_size that is not [height, width]")
    return Manifest(
        schema_version=fields.text("schema_version"),
        name=fields.text("name"),
        version=fields.text("version"),
        method=fields.text("method"),
        image=ImageSpec(image.count("channels"), image.count("factor"), native_size),
        grid=fields.counts("grid"),
        depth=fields.count("depth"),
        codebook_size=fields.count("codebook_size", least=2),
        code_dim=fields.count("code_dim"),
        outputs=fields.texts("outputs"),
        precision=fields.text("precision"),
        encoder_halo=fields.count("encoder_halo", least=0),
        decoder_halo=fields.count("decoder_halo", least=0),
        codebook_id=ContentId(fields.text("codebook_id")),
        tokenizer_id=ContentId(fields.text("tokenizer_id")),
        requires=fields.mapping("requires"),
        prior=PriorSpec.read(fields.nested("prior")) if fields.mapping("prior") else None,
        memory=_numbers(fields.mapping("memory"), "memory"),
        digests=_digests(fields.mapping("digests")),
        parity=fields.mapping("parity"),
        provenance=fields.mapping("provenance"),
        metrics=fields.mapping("metrics"),
    )


def _check_schema(version: str) -> None:
    major = SCHEMA_VERSION.partition(".")[0]
    if version.partition(".")[0] != major:
        raise BundleUnsupported(
            f"{MANIFEST_FILE} has schema version {version}; this vqtok reads {major}.x. "
            "Update vqtok, or export the bundle again."
        )


def _check_requirements(requires: Mapping[str, Any]) -> None:
    unknown = sorted(set(requires) - KNOWN_REQUIREMENTS)
    if unknown:
        raise BundleUnsupported(
            f"{MANIFEST_FILE} requires {', '.join(unknown)}, which this vqtok does not know. "
            "Update vqtok."
        )
    if not isinstance(requires.get("tileable", True), bool):
        raise _corrupt("has a field requires.tileable that is not true or false")


def _contradictions(manifest: Manifest) -> list[str]:
    image, height, width = manifest.image, *manifest.image.native_size
    tail = (manifest.depth,) if manifest.depth > 1 else ()
    laws = {
        "has a name that is not letters, digits and . _ + -": _is_plain(manifest.name),
        "has a version that is not letters, digits and . _ + -": _is_plain(manifest.version),
        "has a codebook_id that is not a sha256": _is_sha256(manifest.codebook_id),
        "has a tokenizer_id that is not a sha256": _is_sha256(manifest.tokenizer_id),
        "has image.channels other than 3": image.channels == 3,
        "has a native size that is no multiple of the factor": (
            height % image.factor == 0 and width % image.factor == 0
        ),
        "has a grid that does not fit native size, factor and depth": (
            manifest.grid == (height // image.factor, width // image.factor, *tail)
        ),
        "has an encoder_halo that is no multiple of the factor": (
            manifest.encoder_halo % image.factor == 0
        ),
        "has a prior whose groups and order do not fit the grid": (
            manifest.prior is None or manifest.prior.fits(manifest.grid)
        ),
        'has outputs without "tokens" and "margins", or twice the same': (
            {"tokens", "margins"} <= set(manifest.outputs)
            and len(set(manifest.outputs)) == len(manifest.outputs)
        ),
    }
    return [complaint for complaint, holds in laws.items() if not holds]


def _digests(raw: Mapping[str, Any]) -> dict[str, str]:
    for name, digest in raw.items():
        if not _is_plain(name):
            raise _corrupt(f"names a file {name!r} that is not a plain file name")
        if not isinstance(digest, str) or not _is_sha256(digest):
            raise _corrupt(f"has a digest of {name} that is not a sha256")
    return dict(raw)


def _numbers(raw: Mapping[str, Any], name: str) -> dict[str, float]:
    """The figures that are numbers; others are of a later minor version and left out."""
    numeric = {k: v for k, v in raw.items() if isinstance(v, int | float)}
    if any(value < 0 for value in numeric.values()):
        raise _corrupt(f"has a field {name} with a negative figure")
    return {key: float(value) for key, value in numeric.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    if isinstance(value, PriorSpec):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return str(value) if isinstance(value, ContentId) else value


def _is_plain(name: str) -> bool:
    return _PLAIN_NAME.fullmatch(name) is not None


def _is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def _corrupt(complaint: str) -> BundleCorrupt:
    return BundleCorrupt(f"{MANIFEST_FILE} {complaint}.")
