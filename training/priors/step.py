"""The step of a diffusion prior as an ONNX graph, and samples from it: a run's folder without
PyTorch.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.priors import DiffusionPrior
from training.graphs import export_step
from training.parity import ExportRefused
from training.priors.latents import CodeMixture, Latents, Step, Walk, draw_latents, token_tosses
from training.priors.times import torch_step
from vqtok.runtime.onnx import load_runtime
from vqtok.runtime.sessions import open_session, session_options

STEP_FILE, MIXTURE_FILE = "step.onnx", "mixture.npz"
MOST_DIFFERENCE = 1e-3
"""Of a latent, whose standard deviation is 1."""
_PARITY_ROWS = 20


@dataclass(frozen=True, eq=False)
class LatentSampler:
    """A trained diffusion prior: its step, in the number and size of the run, and its codes."""

    step: Step
    walk: Walk
    mixture: CodeMixture

    def tokens(
        self, seed: int, numbers: range, labels: NDArray[np.int32], *, likeliest: bool = True
    ) -> NDArray[np.int32]:
        """Grids (n, N) of the samples with these numbers; `labels` (n,).

        likeliest: of each position the code of largest responsibility; else one drawn by it, of
        which the run's bits are a bound.
        """
        latents = draw_latents(self.step, self.walk, seed, numbers, labels)
        if likeliest:
            return self.mixture.likeliest(latents)
        return self.mixture.drawn(latents, token_tosses(self.walk, seed, numbers))


def mixture_of(prior: DiffusionPrior) -> CodeMixture:
    """The codes of a prior in numpy."""
    found = prior.mixture
    arrays = (found.codes, found.variance, found.log_weights)
    return CodeMixture(*(each.cpu().double().numpy() for each in arrays))


def walk_of(prior: DiffusionPrior) -> Walk:
    """The steps of a prior's schedule."""
    size = (prior.shape.num_positions, prior.shape.code_dim)
    return Walk(prior.num_passes, prior.step_size, size)


def write_step(folder: Path, prior: DiffusionPrior) -> None:
    """Write the step and the codes of a trained prior into its run's folder.

    Raises ExportRefused where a step in ONNX leads elsewhere than in PyTorch.
    """
    on_cpu = copy.deepcopy(prior).cpu().eval()
    graph = export_step(on_cpu)
    hold(on_cpu, open_step(graph))
    (folder / STEP_FILE).write_bytes(graph)
    walk, mixture = walk_of(on_cpu), mixture_of(on_cpu)
    np.savez(
        folder / MIXTURE_FILE,
        allow_pickle=False,
        num_steps=walk.num_steps,
        step_size=walk.step_size,
        shape=walk.shape,
        codes=mixture.codes,
        variance=mixture.variance,
        log_weights=mixture.log_weights,
    )


def load_sampler(folder: Path) -> LatentSampler:
    """What `write_step` wrote. Raises FileNotFoundError where there is none."""
    if not (folder / MIXTURE_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no finished run of a diffusion prior")
    graph = (folder / STEP_FILE).read_bytes()
    with np.load(folder / MIXTURE_FILE, allow_pickle=False) as file:
        shape = tuple(int(side) for side in file["shape"])
        walk = Walk(int(file["num_steps"]), float(file["step_size"]), (shape[0], shape[1]))
        mixture = CodeMixture(file["codes"], file["variance"], file["log_weights"])
    return LatentSampler(open_step(graph), walk, mixture)


def open_step(graph: bytes) -> Step:
    """The step of an ONNX graph, on the CPU."""
    ort = load_runtime()
    session = open_session(ort, graph, STEP_FILE, session_options(ort))

    def step(x: Latents, times: Latents, labels: NDArray[np.int32], noise: Latents) -> Latents:
        feed = {"x": x, "times": times, "labels": labels, "noise": noise}
        return session.run(["latents"], feed)[0]

    return step


def hold(prior: DiffusionPrior, step: Step) -> float:
    """The largest difference between steps in PyTorch and another, at times from 0 to 1.

    Raises ExportRefused where it is too large.
    """
    generator = np.random.default_rng(0)
    shape = (_PARITY_ROWS, prior.shape.num_positions, prior.shape.code_dim)
    x, noise = (generator.standard_normal(shape, np.float32) for _ in range(2))
    last = np.linspace(prior.step_size, 1.0, _PARITY_ROWS)
    times = np.stack([last, last - prior.step_size], axis=1).astype(np.float32)
    labels = (np.arange(_PARITY_ROWS) % (prior.shape.num_labels + 1)).astype(np.int32)
    ours, theirs = (each(x, times, labels, noise) for each in (torch_step(prior), step))
    worst = float(np.abs(ours - theirs).max())
    # Not "worst > MOST_DIFFERENCE", which a NaN passes unseen.
    if not worst <= MOST_DIFFERENCE:
        raise ExportRefused(
            f"a step in ONNX ends {worst:.2g} from where it ends in PyTorch, more than "
            f"{MOST_DIFFERENCE:g}"
        )
    return worst
