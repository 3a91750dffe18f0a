"""
Pooling, flattening, dense layers, softmax
==========================================

What stands between the convolutions and the answer.
"""

import numpy as np

from eyebright.lab.convolution import dense, pool, softmax
from eyebright.lab.pictures import draw_numbers

picture = np.array([[1, 8, 6, 2], [3, 4, 5, 0], [9, 2, 1, 9], [7, 6, 3, 4]])
largest, mean = pool(picture[None], 2)[0], pool(picture[None], 2, kind="average")[0]
figure = draw_numbers([("picture", picture), ("max-pool 2×2", largest), ("average pool 2×2", mean)])

# %%
# A pool has nothing to learn. It makes the map smaller, so that what follows sees more of the picture at once; and a
# feature may move a little without changing the answer, as long as it stays within its window:

here, there = np.zeros((4, 4)), np.zeros((4, 4))
here[0, 0] = there[1, 1] = 1
pools = draw_numbers([("a dot", here), ("moved by a pixel", there), ("max-pool of both", pool(there[None], 2)[0])])
print(f"the same: {np.array_equal(pool(here[None], 2), pool(there[None], 2))}")

# %%
# Flattening writes all maps into one long row, channel after channel, line after line. The order is kept; that two
# values were neighbours is lost.

maps = np.arange(8).reshape(2, 2, 2)
print(f"channel 1 {maps[0].tolist()}, channel 2 {maps[1].tolist()} → {maps.ravel().tolist()}")

# %%
# In a dense layer every output is a weighted sum of all inputs. Here eight inputs and three outputs: 8 · 3 + 3 = 27
# parameters; for a map of 6×6×256 and 4096 outputs, as in AlexNet, they are

print(f"{(6 * 6 * 256 + 1) * 4096:,}")

# %%
# Softmax makes probabilities of the outputs, which are then called logits: all positive, together 1, the largest logit
# the most probable. Adding the same number to all logits changes nothing.

weights = np.random.default_rng(0).normal(size=(3, 8)) / 4
logits = dense(maps.ravel(), weights, np.zeros(3))
for values in (logits, logits + 100):
    shares = softmax(values)
    print(f"logits {np.round(values, 2)} → {np.round(shares, 3)}, sum {shares.sum():.6f}")

# %%
# Two classes need no second output: softmax over (0, z) is the sigmoid of z, 1 / (1 + exp(−z)).

z = 1.7
print(f"softmax: {softmax([0, z])[1]:.6f}, sigmoid: {1 / (1 + np.exp(-z)):.6f}")
