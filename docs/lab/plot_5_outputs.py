"""
Why there is one output for each class
======================================

A thousand classes could be numbered, and a network could answer with one number from 0 to 999. Why has it a thousand
outputs instead?
"""

import numpy as np
import torch
from torch import nn

from eyebright.inspection.style import BLUE, ORANGE, make_figure, tidy
from eyebright.lab.convolution import softmax

# %%
# One number puts the classes in an order that they do not have. Class 3 would lie between class 2 and class 4, and a
# picture that may be class 0 or class 9, half and half, would best be answered by 4.5: a class that it certainly is
# not. Here are three clouds of points; the middle one in space is not the middle one by number.

random = np.random.default_rng(0)
centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 0.0]])  # classes 0, 1, 2: class 2 lies between 0 and 1
labels = np.repeat([0, 1, 2], 200)
points = centres[labels] + 0.45 * random.normal(size=(600, 2))
x, y = torch.from_numpy(points).float(), torch.from_numpy(labels)


def train(outputs):
    """One linear layer: with one output to hit the number, with three to find the class."""
    torch.manual_seed(0)
    layer = nn.Linear(2, outputs)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(500):
        answer = layer(x)
        loss = ((answer[:, 0] - y) ** 2).mean() if outputs == 1 else nn.functional.cross_entropy(answer, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        answer = layer(x)
    return (answer[:, 0].round() if outputs == 1 else answer.argmax(1)).long().clamp(0, 2)


figure = make_figure(10, 3.6)
for axes, outputs in zip(figure.subplots(1, 2), (1, 3), strict=True):
    answers = train(outputs)
    right = (answers == y).float().mean().item()
    axes.scatter(*points.T, c=np.where(answers == y, BLUE, ORANGE), s=8)
    tidy(axes, f"{outputs} output{'s' if outputs > 1 else ''}: {right:.0%} right")
    print(f"{outputs} output(s): {right:.1%} right; answers {np.bincount(answers, minlength=3).tolist()}")

# %%
# (Blue: right. Orange: wrong.)
#
# With an output for each class, softmax gives a probability for each, and training raises the log-probability of the
# true one. Which mistakes are near to one another is then learned, not put in.
#
# Sigmoids for several labels
# ---------------------------
#
# Softmax shares out one whole: where two things are in the picture, they have to share it, and not both can be near 1.
# Separate sigmoids answer for each class by itself, and need not add up to one.

logits = np.array([3.0, 2.8, -4.0])
print(f"softmax:  {np.round(softmax(logits), 3)}, sum {softmax(logits).sum():.3f}")
sigmoids = 1 / (1 + np.exp(-logits))
print(f"sigmoids: {np.round(sigmoids, 3)}, sum {sigmoids.sum():.3f}")
