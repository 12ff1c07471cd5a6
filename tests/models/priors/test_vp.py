"""The variance-preserving diffusion against its differential equations and Bayes' rule."""

import math

import numpy as np
import pytest
import torch

from models.priors import vp

START = torch.tensor([0.02, 0.3, 1.0], dtype=torch.float64)


def test_mean_and_variance_solve_the_equations() -> None:
    """α' = -½ β α and v' = β (1 - v), by Runge and Kutta's steps."""

    def slope(t: float, state: np.ndarray) -> np.ndarray:
        beta = 0.1 + 19.9 * t
        return np.concatenate([-0.5 * beta * state[:1], beta * (1.0 - state[1:])])

    state, count = np.concatenate([[1.0], START.numpy()]), 1000
    for number in range(count):
        t, h = number / count, 1.0 / count
        one = slope(t, state)
        two = slope(t + h / 2, state + h / 2 * one)
        three = slope(t + h / 2, state + h / 2 * two)
        four = slope(t + h, state + h * three)
        state = state + h / 6 * (one + 2 * two + 2 * three + four)
        at = torch.tensor((number + 1) / count, dtype=torch.float64)
        assert float(vp.kept(at)) == pytest.approx(state[0], abs=1e-9)
        assert vp.variance(at, START).numpy() == pytest.approx(state[1:], abs=1e-9)


def test_a_time_is_found_by_its_integral() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(vp.time_of(vp.integral(t)), t)
    middle = 0.5 * (vp.rate(t[1:]) + vp.rate(t[:-1])) * 0.01
    torch.testing.assert_close(middle.cumsum(0), vp.integral(t)[1:])


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.99), (0.5, 0.2), (0.01, 0.0)])
def test_the_way_back_is_that_of_the_joint_normal_distribution(t: float, s: float) -> None:
    later, earlier = (torch.tensor(each, dtype=torch.float64) for each in (t, s))
    x, clean = torch.tensor(0.7), torch.tensor(-1.2)
    mean, variance = vp.backward(x, clean, later, earlier, START)
    ratio = vp.kept(later) / vp.kept(earlier)
    v_t, v_s = vp.variance(later, START), vp.variance(earlier, START)
    shared = ratio * v_s
    expected = vp.kept(earlier) * clean + shared / v_t * (x - vp.kept(later) * clean)
    torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(variance, v_s - shared**2 / v_t, rtol=1e-7, atol=1e-12)


def test_random_times_have_their_density() -> None:
    """Of a million even numbers: each twentieth of time has the share that the density says."""
    u = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    t, _ = vp.times_of_weight(u, START[0])
    shares = torch.histc(t, 20, 0.0, 1.0) / len(t)
    at = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    least = START[0]
    slope = vp.rate(at) * vp.kept(at) ** 2 * (1 - least) / vp.variance(at, least)
    high = vp.variance(torch.ones(1, dtype=torch.float64), least)
    even = 0.5 + 0.5 * slope / (high / least).log()
    torch.testing.assert_close(shares, even.view(20, -1).mean(1) / 20, atol=1e-4, rtol=0)
    _, density = vp.times_of_weight(0.5 * at, least)
    torch.testing.assert_close(density, even, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("off", [0.0, 0.2])
def test_the_bound_holds_for_gaussians_and_is_tight_with_the_exact_score(
    spread: float, off: float
) -> None:
    """e ~ N(1, spread²), x_0 ~ N(e, 0.3), everything in closed form, 10,000 steps a unit of time.

    With e's own cost I(e; x_0) taken off, the bound is one on KL(p_0 || p_model). `off` moves the
    model's idea of e's mean.
    """
    start, mean, count = torch.tensor(0.3, dtype=torch.float64), 1.0, 10_000
    number = torch.arange(1, count + 1, dtype=torch.float64)
    t, s = number / count, (number - 1) / count
    kept, v = vp.kept(t), vp.variance(t, start)
    gain = spread**2 * kept / (kept**2 * spread**2 + v)
    # ê = gain x + rest, and the mean squared error of it.
    rest = (1 - gain * kept) * (mean + off)
    error = spread**2 * v / (kept**2 * spread**2 + v) + ((1 - gain * kept) * off) ** 2
    cost = 0.5 * (vp.signal_to_noise(s, start) - vp.signal_to_noise(t, start)) * error
    own = 0.5 * math.log(1 + spread**2 / float(start))
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    along, variance = vp.backward(one, gain, t, s, start)
    shift, _ = vp.backward(zero, rest, t, s, start)
    steps = list(zip(*(each.tolist() for each in (along, shift, variance)), strict=True))
    for tenth in range(1, 11):
        last = tenth * count // 10
        m, w = 0.0, 1.0
        for a, b, c in reversed(steps[:last]):
            m, w = a * m + b, a * a * w + c
        v_end, alpha = (float(each[last - 1]) for each in (v, kept))
        prior = 0.5 * (v_end + alpha**2 * (spread**2 + mean**2) - 1 - math.log(v_end))
        bound = prior + float(cost[:last].sum()) - own
        exact = divergence(mean, spread**2 + float(start), m, w)
        assert bound > exact - 1e-3
        if off == 0.0:
            # Of the exact score nothing is left but what the start has wrong.
            end = divergence(alpha * mean, alpha**2 * spread**2 + v_end, 0.0, 1.0)
            assert bound == pytest.approx(end, abs=1e-3)
        if off == 0.0 and tenth >= 8:
            assert bound == pytest.approx(exact, abs=2e-3)


def divergence(mean: float, variance: float, other: float, other_variance: float) -> float:
    """KL(N(mean, variance) || N(other, other_variance))."""
    share = variance / other_variance
    return 0.5 * (share + (mean - other) ** 2 / other_variance - 1 - math.log(share))
