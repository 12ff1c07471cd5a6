"""TF32: off around the quantizer, and as it was afterwards."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Autoencoder, ModelSettings, NetworkSettings
from models.precision import exact_float32

CUDNN: Any = torch.backends.cudnn
PLACES: tuple[Any, ...] = (torch.backends.cuda.matmul, CUDNN.conv)


def precisions() -> list[str]:
    return [place.fp32_precision for place in PLACES]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = precisions()
    yield
    for place, value in zip(PLACES, before, strict=True):
        place.fp32_precision = value


def _by_the_new_names() -> None:
    for place in PLACES:
        place.fp32_precision = "tf32"


def _by_the_old_name() -> None:
    torch.set_float32_matmul_precision("high")


def _by_nobody() -> None:
    """Convolutions have it anyway."""


@pytest.mark.parametrize("ask", [_by_the_new_names, _by_the_old_name, _by_nobody])
def test_tf32_is_off_inside_and_comes_back(ask: Callable[[], None]) -> None:
    ask()
    before = precisions()
    assert "tf32" in before
    with exact_float32():
        assert precisions() == ["ieee", "ieee"]
    assert precisions() == before
    torch.set_float32_matmul_precision("highest")


@exact_float32()
def _fails() -> None:
    raise KeyError


def test_tf32_comes_back_after_an_error() -> None:
    _by_the_new_names()
    with pytest.raises(KeyError):
        _fails()
    assert precisions() == ["tf32", "tf32"]


@pytest.mark.parametrize("call", ["forward", "encode"])
def test_the_quantizer_runs_without_tf32_and_the_networks_as_they_were_asked(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"codebook_size": 8, "code_dim": 4}
    model = Autoencoder(ModelSettings("vq", options, NetworkSettings(8, 0))).eval()
    seen: dict[str, list[str]] = {}
    part = "assign" if call == "encode" else "forward"
    real = getattr(model.quantizer, part)

    def spy(*arguments: Any) -> Any:
        seen["quantizer"] = precisions()
        return real(*arguments)

    monkeypatch.setattr(model.quantizer, part, spy)

    def of_the_encoder(*_: Any) -> None:
        seen["encoder"] = precisions()

    model.encoder.register_forward_hook(of_the_encoder)
    _by_the_new_names()
    getattr(model, call)(torch.rand(2, 3, 8, 8))
    assert seen == {"encoder": ["tf32", "tf32"], "quantizer": ["ieee", "ieee"]}


@pytest.mark.gpu
def test_a_product_on_a_gpu_is_exact_inside() -> None:
    a, b = torch.randn(2, 512, 512, device="cuda").unbind()
    exact = a.double() @ b.double()

    def error(product: Tensor) -> float:
        return float((product - exact).abs().max())

    torch.set_float32_matmul_precision("high")
    try:
        rounded = error(a @ b)
        with exact_float32():
            assert error(a @ b) < 1e-3 < rounded
    finally:
        torch.set_float32_matmul_precision("highest")
