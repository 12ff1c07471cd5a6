"""The variance-preserving diffusion dx = -½ β x dt + √β dw, β linear in t (Song et al. 2021)."""

import torch
from torch import Tensor

BETA_START, BETA_END = 0.1, 20.0


def rate(t: Tensor) -> Tensor:
    """β(t), for t in [0, 1]."""
    return BETA_START + (BETA_END - BETA_START) * t


def integral(t: Tensor) -> Tensor:
    """B(t) = ∫_0^t β."""
    return BETA_START * t + 0.5 * (BETA_END - BETA_START) * t * t


def time_of(integral_of_it: Tensor) -> Tensor:
    """The t at which ∫_0^t β is that."""
    slope = BETA_END - BETA_START
    return ((BETA_START**2 + 2.0 * slope * integral_of_it).sqrt() - BETA_START) / slope


def kept(t: Tensor) -> Tensor:
    """α(t) = exp(-½ B(t)): what is left of x_0 in the mean of x_t."""
    return (-0.5 * integral(t)).exp()


def variance(t: Tensor, start: Tensor) -> Tensor:
    """v(t) of x_t ~ N(α(t) e, v(t)), where x_0 ~ N(e, start)."""
    return start * (-integral(t)).exp() - torch.expm1(-integral(t))


def signal_to_noise(t: Tensor, start: Tensor) -> Tensor:
    """α² / v."""
    return (-integral(t)).exp() / variance(t, start)


def backward(
    x: Tensor, clean: Tensor, t: Tensor, s: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, e) for s < t: of Bayes' rule with q(x_s | e) and
    q(x_t | x_s) = N(α(t) / α(s) x_s, 1 - (α(t) / α(s))²).
    """
    passed = integral(t) - integral(s)
    ratio, added = (-0.5 * passed).exp(), -torch.expm1(-passed)
    v_s, v_t = variance(s, start), variance(t, start)
    mean = (ratio * v_s * x + kept(s) * added * clean) / v_t
    return mean, v_s * added / v_t


def times_of_weight(u: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Times (n,) of even numbers u in [0, 1) (n,), and their density.

    Half of them are even in t, the others in log v: each of those would weigh the same in the bound
    of Gaussian latents.
    """
    low, high = start.log(), variance(torch.ones_like(start), start).log()
    v = (low + (2.0 * u - 1.0).clamp_min(0.0) * (high - low)).exp()
    by_noise = time_of(-((1.0 - v) / (1.0 - start)).log())
    t = torch.where(u < 0.5, 2.0 * u, by_noise).clamp(0.0, 1.0)
    slope = rate(t) * kept(t).square() * (1.0 - start) / variance(t, start)
    return t, 0.5 + 0.5 * slope / (high - low)
