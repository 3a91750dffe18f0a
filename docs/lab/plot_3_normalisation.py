"""
Normalisation
=============

All normalisations do the same: subtract the mean, divide by the standard deviation. They differ in **over which
values** these are taken, of maps with samples, channels, and height and width.
"""

import numpy as np
import torch
from torch import nn

from eyebright.lab.normalisation import AXES, BatchNorm, dropout, group_norm, normalise
from eyebright.lab.pictures import draw_axes, draw_numbers

figure = draw_axes()

# %%
# By hand: two samples of two channels of two pixels.

x = np.array([[[[1.0, 3.0]], [[10.0, 14.0]]], [[[5.0, 7.0]], [[6.0, 2.0]]]])  # [2, 2, 1, 2]
for name, axes in AXES.items():
    mean = x.mean(axes, keepdims=True)
    print(f"{name:8} norm: over {x.size // mean.size} values each, means {mean.ravel().tolist()}")
print(f"group    norm with 1 group is layer norm: {np.allclose(group_norm(x, 1), normalise(x, AXES['layer']))}")
print(f"group    norm with C groups is instance norm: {np.allclose(group_norm(x, 2), normalise(x, AXES['instance']))}")

# %%
# Batch norm and its running averages
# -----------------------------------
#
# Batch norm takes its mean over the batch, so a sample's result depends on the others beside it. For a single picture
# at test time that will not do: while training it keeps a running average of means and variances, and uses those.
# Each batch replaces a tenth of it, so after some dozens of batches it has forgotten where it began (mean 0,
# variance 1).

norm, random = BatchNorm(1), np.random.default_rng(0)
for step in range(1, 51):
    norm.train(random.normal(4, 3, size=(32, 1, 4, 4)))
    if step in (1, 2, 5, 10, 20, 50):
        print(f"after batch {step:2}: mean {norm.running_mean[0]:.2f}, variance {norm.running_variance[0]:.2f}")
print("of the data: mean 4.00, variance 9.00")

# %%
# With the averages, a picture gives the same result alone as among others:

pictures = random.normal(4, 3, size=(5, 1, 4, 4))
alone, among = norm.evaluate(pictures[:1]), norm.evaluate(pictures)[:1]
print(f"evaluating: difference {np.abs(alone - among).max():.1f}", end="; ")
alone, among = norm.train(pictures[:1]), norm.train(pictures)[:1]
print(f"training: difference {np.abs(alone - among).max():.1f}")

# %%
# What is learned: a scale and a shift for each channel, 2 · C numbers, so that the layer may undo the normalisation
# where that is better. The running averages are 2 · C more, which are counted, not learned.

layer = nn.BatchNorm2d(64)
print(f"learned: {sum(p.numel() for p in layer.parameters())}", end="; ")
print(f"counted: {layer.running_mean.numel() + layer.running_var.numel()}")

# %%
# And its effect on learning: with it, signals keep their size on their way through many layers. Twenty layers of 3×3
# convolutions whose first weights are a little too small:

torch.manual_seed(0)
for name, between in (("without", nn.Identity), ("with batch norm", lambda: nn.BatchNorm2d(16))):
    x = torch.randn(8, 16, 12, 12)
    sizes = []
    for _ in range(20):
        convolution = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        nn.init.normal_(convolution.weight, std=0.06)
        with torch.no_grad():
            x = torch.relu(between()(convolution(x)))
        sizes.append(x.std().item())
    print(f"{name:16}: size after layer 1, 10, 20: {sizes[0]:.3f}, {sizes[9]:.6f}, {sizes[19]:.8f}")

# %%
# Dropout
# -------
#
# In training, each value is set to zero with the probability given, and the others grow so that the expected sum stays
# the same; whole channels with channel dropout, because neighbouring pixels say nearly the same. At test time nothing
# is dropped.

ones = np.ones((1, 3, 4, 4))
values = dropout(ones, 0.5, np.random.default_rng(1))[0]
channels = dropout(ones, 0.5, np.random.default_rng(3), whole_channels=True)[0]
figure = draw_numbers(
    [(f"dropout, channel {c + 1}", values[c]) for c in range(3)]
    + [(f"channel dropout, {c + 1}", channels[c]) for c in range(3)]
)
