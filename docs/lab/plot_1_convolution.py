"""
Convolution by hand
===================

A kernel slides over the picture. At each place it is multiplied, number by number, with what lies beneath it, and
everything is added up: one number for each place.
"""

import numpy as np
import torch

from eyebright.lab.convolution import convolve, convolve_as_matrices, curve_example, output_size, parameter_count
from eyebright.lab.pictures import draw_numbers

picture = np.array([[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 9]])
kernel = np.array([[1, 0], [0, -1]])
answer = convolve(picture[None], kernel[None, None])[0]
figure = draw_numbers([("picture, 4×4", picture), ("kernel, 2×2", kernel), ("answer, 3×3", answer)])

# %%
# The first number of the answer: 0·1 + 1·0 + 1·0 + 2·(−1) = −2. The kernel compares a pixel with the one to the lower
# right of it, so its answer is the same −2 wherever the picture rises evenly, and another only in the corner.
#
# Padding and stride
# ------------------
#
# Zeros around the picture let the kernel stand on its edge; a stride moves it on by more than one pixel.

kernel = np.ones((3, 3))
padded = convolve(picture[None], kernel[None, None], padding=1)[0]
strided = convolve(picture[None], kernel[None, None], padding=1, stride=2)[0]
figure = draw_numbers([("sums of 3×3, padding 1", padded), ("stride 2: every second of them", strided)])

# %%
# With a side of `n` pixels, a kernel `k`, padding `p` and stride `s`, ⌊(n + 2p − k) / s⌋ + 1 values come out:

for side, size, padding, stride in ((32, 5, 0, 1), (4, 3, 1, 1), (4, 3, 1, 2), (224, 7, 3, 2), (227, 11, 0, 4)):
    count = output_size(side, size, padding, stride)
    print(f"side {side:3}, kernel {size:2}, padding {padding}, stride {stride} → {count}")

# %%
# Exercises: what is the shape of the answer? (samples × channels × height × width)

for given, kernels, side, padding, stride in (
    ("1×3×32×32", 1, 5, 0, 1), ("1×3×32×32", 16, 5, 2, 1), ("8×3×32×32", 16, 3, 1, 2), ("1×1×28×28", 6, 5, 2, 1),
    ("1×64×56×56", 128, 1, 0, 2), ("1×3×224×224", 64, 7, 3, 2), ("2×16×10×10", 4, 10, 0, 1),
):  # fmt: skip
    samples, _, height, width = given.split("×")
    shape = [output_size(int(n), side, padding, stride) for n in (height, width)]
    how = f"{kernels} kernels {side}×{side}, padding {padding}, stride {stride}"
    print(f"{given:12} with {how:43} → {samples}×{kernels}×{shape[0]}×{shape[1]}")

# %%
# Several input channels
# ----------------------
#
# A colour picture has three channels. Then a kernel has three slices, one for each; each is multiplied with its own
# channel, and all three sums are added, and the bias at last. Here the channels give 7, 5 and 7; together 19, and with
# a bias of 1: 20.

channels = np.array([
    [[1, 0, 2], [0, 1, 0], [3, 0, 1]],
    [[0, 1, 0], [2, 0, 1], [0, 1, 1]],
    [[1, 1, 1], [0, 2, 0], [1, 0, 2]],
])  # fmt: skip
slices = np.array([
    [[1, 0, 1], [0, 1, 0], [1, 0, 0]],
    [[1, 1, 0], [1, 0, 1], [0, 1, 0]],
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
])  # fmt: skip
each = [convolve(channels[c][None], slices[c][None, None]).item() for c in range(3)]
together = convolve(channels, slices[None], bias=[1]).item()
print(f"{' + '.join(f'{value:g}' for value in each)} + 1 = {together:g}")
figure = draw_numbers([(f"channel {c + 1}", channels[c]) for c in range(3)])
kernels = draw_numbers([(f"slice {c + 1} of the kernel", slices[c]) for c in range(3)])

# %%
# Several kernels give several output channels, stacked. What is learned are the kernels' numbers: (k · k · C_in + 1) ·
# C_out of them, **whatever the size of the picture**.

for size, before, after in ((3, 3, 1), (3, 3, 32), (2, 3, 32), (2, 32, 32)):
    print(f"{size}×{size}, {before:2} → {after:2} channels: {parameter_count(size, before, after):5,} parameters")

# %%
# A channel that is never used
# ----------------------------
#
# Give a network for colour pictures grey ones, three times the same channel: no kernel can tell the three slices apart
# any more; only their sum matters. And where a channel is always 0, its slices are multiplied by 0 and get no
# gradient: after training they look as they did before, like noise.

grey = np.repeat(channels[:1], 3, axis=0)
same = convolve(grey[:1], slices.sum(0)[None, None]).item()
print(f"three equal channels: {convolve(grey, slices[None]).item():g}; one channel, slices added up: {same:g}")

layer = torch.nn.Conv2d(3, 8, 3)
pictures = torch.rand(4, 3, 9, 9)
pictures[:, 2] = 0
layer(pictures).square().mean().backward()
for c in range(3):
    print(f"channel {c + 1}: size of its slices' gradient {layer.weight.grad[:, c].norm():.2f}")

# %%
# A kernel finds its own shape
# ----------------------------
#
# The more a patch looks like the kernel, the larger the answer: 6,600 on the curve, 0 on another patch.

kernel, patch, other = curve_example()
found = [convolve(shown[None], kernel[None, None]).item() for shown in (patch, other)]
print(f"on the curve: {found[0]:,.0f}; on another patch: {found[1]:,.0f}")
figure = draw_numbers([("kernel", kernel), ("a patch with the curve", patch), ("another patch", other)])

# %%
# As matrices
# -----------
#
# A 1×1 convolution is one matrix applied at every pixel: it mixes channels. A k×k convolution is the sum of k² of
# them, each applied to the picture shifted by a pixel. That is also why a dense layer is a 1×1 convolution.

maps, kernels = np.random.default_rng(0).normal(size=(3, 6, 6)), np.random.default_rng(1).normal(size=(4, 3, 3, 3))
difference = np.abs(convolve(maps, kernels) - convolve_as_matrices(maps, kernels)).max()
print(f"largest difference between nine matrix products and the sliding kernel: {difference:.0e}")
