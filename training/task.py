"""What a step computes: a batch through the model, its reconstruction to a loss."""

from collections.abc import Sequence

from torch import Tensor, nn

from models import Autoencoder, Progress
from models.quantizers import Posterior, Quantized
from models.quantizers.base import ParameterState
from training.objectives import Loss, build_objective
from training.settings import RunSettings


class Task(nn.Module):
    """Model and objective as one module, so that devices share the gradients of both."""

    def __init__(self, settings: RunSettings) -> None:
        super().__init__()
        self.model = Autoencoder(settings.model)
        self.objective = build_objective(settings.objective.name, settings.objective.options)
        self.objective.prepare(self.model.quantizer)

        self._frozen: Sequence[str] = ()

    def freeze(self, parts: Sequence[str]) -> None:
        """Keep "encoder", "quantizer" or "decoder" as they are, and as they evaluate."""
        self._frozen = parts
        for part in parts:
            self.model.get_submodule(part).requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Task":
        super().train(mode)
        for part in self._frozen:
            self.model.get_submodule(part).eval()
        return self

    def forward(
        self, pixels: Tensor, progress: Progress, *, continuous: bool = False
    ) -> tuple[Loss, Quantized | None]:
        """Pixels (B, 3, H, W) in [0, 1] to the loss at this point of training.

        The loss alone carries gradients: what else the quantizer gave is for hooks and the log, and
        processes that share a batch would wait for gradients of terms that no objective weighs.

        continuous: the decoder reads z_e itself, as before a codebook has its start.
        """
        if continuous:
            return self.objective.of_autoencoder(pixels, self.model.continuous(pixels)), None
        reconstruction = self.model(pixels, progress)
        loss = self.objective(pixels, reconstruction, progress.fraction)
        return loss, _detached(reconstruction.quantized)

    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        """The hooks of quantizer and objective, once the optimiser has stepped."""
        if "quantizer" not in self._frozen:
            self.model.quantizer.after_step(quantized, progress, optimiser_state)
        self.objective.after_step(quantized)


def _detached(quantized: Quantized) -> Quantized:
    return quantized._replace(
        z_q=quantized.z_q.detach(),
        terms={name: term.detach() for name, term in quantized.terms.items()},
        posterior=Posterior(*(part.detach() for part in quantized.posterior)),
    )
