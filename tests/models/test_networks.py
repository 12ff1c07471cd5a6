"""Encoder and decoder: shapes, settings, and how far a pixel or a cell reaches."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.blocks import ResidualBlock, Upsample, conv_norm
from models.networks import Decoder, Encoder, NetworkSettings

HEAD_CHANNELS, CODE_DIM = 5, 3
FACTORS = pytest.mark.parametrize("factor", [2, 4, 8])
BLOCKS = pytest.mark.parametrize(
    ("factor", "num_blocks", "num_fine", "depthwise"),
    [
        *[(2, 0, 0, 0), (2, 3, 0, 0), (4, 1, 0, 0), (4, 3, 0, 0), (4, 1, 1, 0), (4, 0, 3, 0)],
        *[(8, 0, 0, 0), (8, 1, 2, 0), (2, 2, 0, 7), (4, 1, 1, 7), (4, 2, 1, 5), (8, 0, 1, 7)],
    ],
)

DEPTHWISE = pytest.mark.parametrize("depthwise", [0, 7])


def settings(**changes: Any) -> NetworkSettings:
    chosen: dict[str, Any] = {"width": 8, "num_blocks": 1, **changes}
    return NetworkSettings(**chosen)


@FACTORS
@pytest.mark.parametrize("width", [4, 12, 32])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_shapes(factor: int, width: int, norm: str) -> None:
    given = settings(factor=factor, width=width, norm=norm)
    head = Encoder(given, HEAD_CHANNELS, CODE_DIM)(torch.rand(2, 3, 2 * factor, 3 * factor))
    assert head.shape == (2, HEAD_CHANNELS, 2, 3)
    pixels = Decoder(given, CODE_DIM)(torch.randn(2, CODE_DIM, 2, 3))
    assert pixels.shape == (2, 3, 2 * factor, 3 * factor)


@FACTORS
def test_any_multiple_of_the_factor_will_do(factor: int) -> None:
    given = settings(factor=factor, width=4)
    encoder, decoder = (
        Encoder(given, HEAD_CHANNELS, CODE_DIM).eval(),
        Decoder(given, CODE_DIM).eval(),
    )
    for rows, columns in itertools.product((1, 2, 5), (1, 3, 8)):
        head = encoder(torch.rand(1, 3, rows * factor, columns * factor))
        assert head.shape[2:] == (rows, columns)
        pixels = decoder(torch.randn(1, CODE_DIM, rows, columns))
        assert pixels.shape[2:] == (rows * factor, columns * factor)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"factor": 1}, "factor must be a power of 2 and at least 2, not 1"),
        ({"factor": 0}, "factor must be"),
        ({"factor": 6}, "factor must be a power of 2 and at least 2, not 6"),
        ({"width": 0}, "width must be a positive multiple of 4"),
        ({"width": -4}, "width must be"),
        ({"width": 10}, "width must be"),
        ({"num_blocks": -1}, "numbers of blocks at least 0"),
        ({"silent_blocks": True, "norm": "none"}, "silent_blocks needs norm = 'batch'"),
        ({"num_fine_blocks": -1}, "numbers of blocks at least 0"),
        ({"num_fine_blocks": 1, "factor": 2}, "num_fine_blocks needs a factor of at least 4"),
        ({"depthwise_kernel": 4}, "depthwise_kernel must be odd, or 0 for dense blocks, not 4"),
        ({"depthwise_kernel": -3}, "depthwise_kernel must be odd"),
        ({"norm": "group"}, "norm must be 'batch' or 'none', not 'group'"),
    ],
)
def test_settings_that_make_no_network_are_refused_in_words(
    wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        settings(**wrong)


@pytest.mark.parametrize(
    ("factor", "channels"), [(2, [8, 16]), (4, [8, 8, 16]), (8, [8, 8, 16, 16])]
)
def test_channels_double_at_the_second_halving(factor: int, channels: list[int]) -> None:
    given = settings(factor=factor, width=16)
    assert [given.channels(scale) for scale in range(given.num_scales + 1)] == channels


def all_paths_open(network: nn.Module) -> Any:
    """In float64, with positive weights, so that no ReLU closes and nothing cancels."""
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.01, 0.02)
    return network.double().eval()


def reach(gradient: Tensor, cell: tuple[int, int], size: int) -> tuple[int, int]:
    """How far beyond `cell` of size x size pixels the gradient (1, C, H, W) is not 0.

    The shortest and the longest of the four sides.
    """
    sides = []
    for axis, place in enumerate(cell):
        touched = gradient.abs().sum(dim=(0, 1, 3 - axis)).nonzero()
        first, last = int(touched[0]), int(touched[-1])
        sides += [place * size - first, last - (place * size + size - 1)]
    return min(sides), max(sides)


@BLOCKS
def test_the_encoders_halo_is_its_reach_in_whole_cells(
    factor: int, num_blocks: int, num_fine: int, depthwise: int
) -> None:
    given = settings(
        factor=factor,
        num_blocks=num_blocks,
        num_fine_blocks=num_fine,
        depthwise_kernel=depthwise,
        width=4,
    )
    encoder = all_paths_open(Encoder(given, HEAD_CHANNELS, CODE_DIM))
    pixels = torch.rand(1, 3, 23 * factor, 25 * factor).double().add_(1).requires_grad_()
    encoder(pixels)[0, :, 11, 12].sum().backward()
    assert pixels.grad is not None
    _, longest = reach(pixels.grad, (11, 12), factor)
    assert longest <= encoder.halo
    assert encoder.halo == -(-longest // factor) * factor


@BLOCKS
def test_the_decoders_halo_is_its_reach(
    factor: int, num_blocks: int, num_fine: int, depthwise: int
) -> None:
    given = settings(
        factor=factor,
        num_blocks=num_blocks,
        num_fine_blocks=num_fine,
        depthwise_kernel=depthwise,
        width=4,
    )
    decoder = all_paths_open(Decoder(given, CODE_DIM))
    z_q = torch.rand(1, CODE_DIM, 23, 25).double().requires_grad_()
    rows, columns = slice(11 * factor, 12 * factor), slice(12 * factor, 13 * factor)
    decoder(z_q)[0, :, rows, columns].sum().backward()
    assert z_q.grad is not None
    _, longest = reach(z_q.grad, (11, 12), 1)
    assert decoder.halo == longest


@FACTORS
def test_a_tile_with_its_halo_gives_the_tokens_and_pixels_of_the_whole(factor: int) -> None:
    given = settings(factor=factor, width=4, num_blocks=2, num_fine_blocks=int(factor > 2))
    encoder = Encoder(given, HEAD_CHANNELS, CODE_DIM).double().eval()
    decoder = Decoder(given, CODE_DIM).double().eval()
    pixels, margin = torch.rand(1, 3, 16 * factor, 16 * factor).double(), encoder.halo // factor
    start, stop = 7, 9
    cut = slice((start - margin) * factor, (stop + margin) * factor)
    torch.testing.assert_close(
        encoder(pixels[..., cut, cut])[..., margin:-margin, margin:-margin],
        encoder(pixels)[..., start:stop, start:stop],
        rtol=1e-10,
        atol=1e-12,
    )
    z_q, margin = torch.randn(1, CODE_DIM, 16, 16).double(), decoder.halo
    cut, inner = slice(start - margin, stop + margin), slice(start * factor, stop * factor)
    edge = slice(margin * factor, -margin * factor)
    torch.testing.assert_close(
        decoder(z_q[..., cut, cut])[..., edge, edge],
        decoder(z_q)[..., inner, inner],
        rtol=1e-10,
        atol=1e-12,
    )


def test_the_untrained_enlargement_repeats_its_convolution() -> None:
    layer = Upsample(6, 5)
    x = torch.randn(2, 6, 4, 3)
    first_of_four = nn.functional.conv2d(
        x, layer.conv.weight[::4], None if layer.conv.bias is None else layer.conv.bias[::4], 1, 1
    )
    torch.testing.assert_close(
        layer(x), nn.functional.interpolate(first_of_four, scale_factor=2, mode="nearest")
    )
    assert first_of_four.std() > 0.1


def test_the_four_sub_pixels_can_learn_apart() -> None:
    layer = Upsample(2, 3)
    layer(torch.randn(1, 2, 4, 4))[..., ::2, ::2].square().sum().backward()
    assert layer.conv.weight.grad is not None
    of_sub_pixel = layer.conv.weight.grad.view(3, 4, -1).abs().sum((0, 2))
    assert of_sub_pixel[0] > 0
    assert torch.equal(of_sub_pixel[1:], torch.zeros(3))


@DEPTHWISE
def test_a_silent_block_starts_as_the_identity_and_learns(depthwise: int) -> None:
    block = ResidualBlock(4, "batch", depthwise_kernel=depthwise, silent=True)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    scale = block.get_parameter("body.3.1.weight")
    assert scale.grad is not None
    assert (scale.grad != 0).all()


@DEPTHWISE
def test_a_residual_block_adds_to_what_it_gets(depthwise: int) -> None:
    block = ResidualBlock(4, "none", depthwise_kernel=depthwise)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 8), (1, 1, 8), (4, 2, 4)])
def test_a_convolution_keeps_or_halves_the_size(kernel: int, stride: int, side: int) -> None:
    for norm in ("batch", "none"):
        layer = conv_norm(2, 3, kernel, norm, stride=stride)
        assert layer(torch.randn(1, 2, 8, 8)).shape == (1, 3, side, side)


def test_standardised_vectors_have_mean_0_and_variance_1_and_the_rest_is_as_it_was() -> None:
    torch.manual_seed(0)
    plain, standard = (
        Encoder(settings(standardise=chosen), HEAD_CHANNELS, CODE_DIM) for chosen in (False, True)
    )
    standard.load_state_dict(plain.state_dict(), strict=False)
    pixels = torch.rand(16, 3, 16, 16)
    before, after = plain(pixels), standard(pixels)
    torch.testing.assert_close(after[:, CODE_DIM:], before[:, CODE_DIM:])
    vectors = after[:, :CODE_DIM].transpose(0, 1).flatten(1)
    torch.testing.assert_close(vectors.mean(1), torch.zeros(CODE_DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.var(1), torch.ones(CODE_DIM), atol=1e-2, rtol=0)


@pytest.mark.parametrize(("norm", "count"), [("batch", True), ("none", False)])
def test_norms_stand_where_the_settings_say(norm: str, count: bool) -> None:
    given = settings(norm=norm)
    for network in (Encoder(given, HEAD_CHANNELS, CODE_DIM), Decoder(given, CODE_DIM)):
        found = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert bool(found) is count


def test_black_and_white_reach_the_encoder_as_minus_one_and_one() -> None:
    encoder = Encoder(settings(), HEAD_CHANNELS, CODE_DIM).eval()
    seen: list[Tensor] = []
    encoder.body.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4))
    assert [float(part.mean()) for part in seen[0]] == [-1.0, 0.0, 1.0]


def test_a_decoder_that_says_nothing_shows_grey() -> None:
    decoder = Decoder(settings(), CODE_DIM).eval()
    nn.init.zeros_(decoder.to_pixels.weight)
    assert decoder.to_pixels.bias is not None
    nn.init.zeros_(decoder.to_pixels.bias)
    assert torch.equal(decoder(torch.randn(1, CODE_DIM, 1, 1)), torch.full((1, 3, 4, 4), 0.5))


def test_the_head_stays_in_full_precision_under_autocast() -> None:
    """bfloat16 keeps 8 bits: a head rounded to them would be equal to its own rounding."""
    encoder = Encoder(settings(), HEAD_CHANNELS, CODE_DIM).eval()
    with torch.autocast("cpu", torch.bfloat16):
        head = encoder(torch.rand(2, 3, 8, 8))
    assert head.dtype == torch.float32
    assert not torch.equal(head, head.bfloat16().float())
