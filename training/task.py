"""What a step computes: a batch through the model, its reconstruction to a loss."""

from torch import Tensor, nn

from models import Autoencoder, Progress
from models.quantizers import Posterior, Quantized
from training.objectives import Loss, build_objective
from training.settings import RunSettings


class Task(nn.Module):
    """Model and objective as one module, so that devices share the gradients of both."""

    def __init__(self, settings: RunSettings) -> None:
        super().__init__()
        self.model = Autoencoder(settings.model)
        self.objective = build_objective(settings.objective.name, settings.objective.options)

    def forward(self, pixels: Tensor, progress: Progress) -> tuple[Loss, Quantized]:
        """Pixels (B, 3, H, W) in [0, 1] to the loss at this point of training.

        The loss alone carries gradients: what else the quantizer gave is for hooks and the log, and
        processes that share a batch would wait for gradients of terms that no objective weighs.
        """
        reconstruction = self.model(pixels, progress)
        loss = self.objective(pixels, reconstruction, progress.fraction)
        return loss, _detached(reconstruction.quantized)


def _detached(quantized: Quantized) -> Quantized:
    return quantized._replace(
        z_q=quantized.z_q.detach(),
        terms={name: term.detach() for name, term in quantized.terms.items()},
        posterior=Posterior(*(part.detach() for part in quantized.posterior)),
    )
