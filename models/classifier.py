"""A small classifier, whose features say how alike two sets of images are."""

from torch import Tensor, nn

from models.blocks import conv_norm


class Classifier(nn.Module):
    """Pixels (B, 3, H, W) in [0, 1] -> logits (B, num_classes).

    After the ResNet-9 of D. Page's "How to train your ResNet" (2018), which learns CIFAR-10 in few
    epochs, but halved at once: most of a processor's time would go to the full resolution. H and W
    are multiples of 8.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.body = nn.Sequential(
            conv_norm(3, width, 4, "batch", stride=2),
            nn.ReLU(),
            _Residual(width),
            *_halved(width, 2 * width),
            _Residual(2 * width),
            *_halved(2 * width, 4 * width),
        )
        self.head = nn.Linear(self.num_features, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        """What the last layer sees: (B, num_features), each the mean over all places."""
        return self.body(2.0 * pixels - 1.0).mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


class _Residual(nn.Module):
    """x + f(x), f twice 3 x 3, norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_seen(channels), *_seen(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _seen(channels: int) -> list[nn.Module]:
    return [conv_norm(channels, channels, 3, "batch"), nn.ReLU()]


def _halved(channels: int, wider: int) -> list[nn.Module]:
    return [conv_norm(channels, wider, 3, "batch"), nn.MaxPool2d(2), nn.ReLU()]
