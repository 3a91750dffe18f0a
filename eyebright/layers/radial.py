"""The outputs of the first LeNet-5: how far a picture's features lie from a code fixed for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DIGITS = (  # 10 drawings of 7×12 pixels, line by line; * is ink
    "....... ..***.. .**.**. **...** **...** **...** **...** **...** **...** .**.**. ..***.. .......",
    "....... ...**.. ..***.. .****.. ...**.. ...**.. ...**.. ...**.. ...**.. ...**.. .****** .......",
    "....... .*****. **...** .....** .....** ....**. ...**.. ..**... .**.... **..... ******* .......",
    "....... ******* .....** ....**. ...**.. ..****. .....** .....** .....** **...** .*****. .......",
    "....... ....**. ...***. ..****. .**.**. **..**. ******* ....**. ....**. ....**. ....**. .......",
    "....... ******* **..... **..... ******. **...** .....** .....** .....** **...** .*****. .......",
    "....... ..****. .**.... **..... **..... ******. **...** **...** **...** **...** .*****. .......",
    "....... ******* .....** .....** ....**. ....**. ...**.. ...**.. ..**... ..**... ..**... .......",
    "....... .*****. **...** **...** **...** .*****. **...** **...** **...** **...** .*****. .......",
    "....... .*****. **...** **...** **...** **...** .****** .....** .....** ....**. .****.. .......",
)
WIDTH = 7 * 12


def codes(count: int) -> Tensor:
    """The codes of `count` classes, float32 `[count, 84]` of −1 and 1: ten digits, then such as chance gave."""
    drawn = torch.tensor([[1.0 if pixel == "*" else -1.0 for pixel in digit.replace(" ", "")] for digit in DIGITS])
    if count <= len(drawn):
        return drawn[:count]
    by_chance = torch.randint(0, 2, (count - len(drawn), WIDTH), generator=torch.Generator().manual_seed(0))
    return torch.cat([drawn, by_chance * 2.0 - 1.0])


class RadialBasis(nn.Module):
    """Minus the squared distance of features to the code of each class; nothing is learned.

    Args:
        num_classes: how many codes. The first ten are drawings of the digits 0 to 9, so that classes that look alike
            have codes that are alike; further ones are random, fixed for ever.

    Attributes:
        weight: the codes, `[num_classes, 84]`, each value −1 or 1.

    Source:
        LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, 1998, §II.B, layer F6.
    """

    weight: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        self.in_features, self.out_features = WIDTH, num_classes
        with torch.device("cpu"):
            self.register_buffer("weight", codes(num_classes))
        default = torch.get_default_device()
        if default.type != "cpu":
            self.to(default)

    def forward(self, x: Tensor) -> Tensor:
        """`[…, 84]` → logits `[…, num_classes]`, none above 0."""
        return -(x[..., None, :] - self.weight).square().sum(-1)

    def extra_repr(self) -> str:
        """The sizes, as `print` shows them."""
        return f"{self.in_features}→{self.out_features}, fixed"
