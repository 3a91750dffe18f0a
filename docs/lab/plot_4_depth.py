"""
Going deeper
============

Why small kernels are stacked, and what shortcuts are for.
"""

import torch
import torch.nn.functional as F
from torch import nn

from eyebright.inspection.style import BLUE, RED, make_figure, tidy
from eyebright.lab.convolution import stacks
from eyebright.layers.blocks import STYLE
from eyebright.models.create import create_model
from eyebright.models.resnet import Block

# %%
# Stacked 3×3 against one large kernel
# ------------------------------------
#
# Two 3×3 convolutions see as far as one 5×5, three as far as one 7×7, five as far as one 11×11; with fewer parameters,
# and with a nonlinearity after each. (VGG, §2.3; 256 channels in and out.)

print("          sees   parameters   nonlinearities")
for small, large in stacks(channels=256):
    for stack in (small, large):
        name = f"{stack.layers} of {stack.kernel}×{stack.kernel}"
        print(f"{name:>10} {stack.receptive_field:3}  {stack.parameters:11,}   {stack.nonlinearities}")
    print(f"           the large one has {large.parameters / small.parameters - 1:.0%} more")

# %%
# A residual block with zero weights is the identity
# --------------------------------------------------
#
# A block computes F(x) + x. If its weights are zero, F is zero, and what comes in goes out: a deeper net can do what a
# shallower one does, simply by leaving blocks alone. A plain block with zero weights gives out nothing at all.

x = torch.rand(1, 64, 8, 8)  # not negative, as after a ReLU
for name, shortcut in (("with a shortcut", nn.Identity()), ("plain", None)):
    block = Block(64, ((64, 3, 1), (64, 3, 1)), shortcut, preactivation=False, style=STYLE).eval()
    for layer in (block.conv1, block.conv2):
        nn.init.zeros_(layer.weight)
    with torch.no_grad():
        y = block(x)
    print(f"{name:16}: output equals input: {torch.equal(y, x)}; largest output {y.max():.3f}")

# %%
# Gradients in deep nets
# ----------------------
#
# Gradients go back through the shortcuts too, past the convolutions. Here the 56-layer net for small pictures and its
# plain twin, with fresh weights: the size of the gradient of each 3×3 convolution. In the plain twin it grows a
# little with each layer on its way back, and a little, 55 times over, is a lot.

figure = make_figure(9, 4)
axes = figure.subplots()
images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
for name, color in (("resnet56_cifar", BLUE), ("plain56_cifar", RED)):
    model = create_model(name, seed=0).train()
    F.cross_entropy(model(images), torch.arange(8)).backward()
    sizes = [layer.weight.grad.norm().item() for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    axes.semilogy(range(1, len(sizes) + 1), sizes, color=color, label=name)
    print(f"{name}: first layer {sizes[0]:.2f}, last {sizes[-1]:.2f}, smallest {min(sizes):.4f}")
tidy(axes, "Gradients of fresh networks", "layer", "norm of the gradient")
legend = axes.legend(frameon=False)

# %%
# A plain net of 56 layers is **worse on its own training pictures** than one of 20: that is no overfitting, but a
# matter of optimisation. Train `plain20-cifar10` and `plain56-cifar10` beside `resnet20-cifar10` and
# `resnet56-cifar10` to see it.
