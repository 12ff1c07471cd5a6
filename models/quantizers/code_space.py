"""From the codes that are trained to the codes that are searched and looked up, and back."""

from torch import Tensor, nn

from models.quantizers.affine import Affine
from models.quantizers.unit_length import unit_length


class CodeSpace(nn.Module):
    """Raw codes μ ─► affine: s μ + b ─► unit length; either may be off.

    Search, lookup, losses and export see the codes at the end of the chain, and latents on the same
    sphere.
    """

    def __init__(self, affine: Affine | None = None, normalise: bool = False) -> None:
        super().__init__()
        self.affine, self.normalise = affine, normalise

    def forward(self, codebook: Tensor) -> Tensor:
        """The codes (K, D) of a raw codebook (K, D)."""
        return self.latents(codebook if self.affine is None else self.affine(codebook))

    def latents(self, z: Tensor) -> Tensor:
        """What is compared with codes, of the encoder's vectors (N, D)."""
        return unit_length(z) if self.normalise else z

    def raw(self, vectors: Tensor) -> Tensor:
        """The raw codes (M, D) whose codes are `latents(vectors)`."""
        codes = self.latents(vectors)
        return codes if self.affine is None else self.affine.inverse(codes)

    def observe(self, z_e: Tensor, codebook: Tensor) -> None:
        """Called after a training step, with its latents (N, D) and the raw codes."""
        if self.affine is not None:
            self.affine.observe(z_e, codebook)

    def rule(self) -> dict[str, float | str]:
        """What margins depend on beside head and code table."""
        return {"latents": "unit length"} if self.normalise else {}

    def statistics(self) -> dict[str, Tensor]:
        """Scalars to log: scales that only grow say that straight-through diverges."""
        if self.affine is None:
            return {}
        scale, shift = (x.detach() for x in self.affine.scale_and_shift())
        return {"affine_scale": scale.mean(), "affine_shift": shift.norm()}
