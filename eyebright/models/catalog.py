"""Every network by name: what it is and where it comes from."""

from __future__ import annotations

from functools import partial

from eyebright.errors import ModelError, did_you_mean
from eyebright.layers.blocks import STYLE, WITHOUT_NORM
from eyebright.models import googlenet
from eyebright.models.airbench import Airbench
from eyebright.models.alexnet import AlexNet, AlexNet2012
from eyebright.models.cnn import CnnCifar, CnnMnist, CnnRecitation
from eyebright.models.entry import Entry
from eyebright.models.googlenet import GoogLeNet
from eyebright.models.inception_v2 import InceptionV2
from eyebright.models.inception_v3 import InceptionV3
from eyebright.models.inception_v4 import InceptionV4
from eyebright.models.lenet import LeNet5, LeNet5Original
from eyebright.models.resnet import SHAPES, ResNet, Shape
from eyebright.models.resnet_cifar import DEPTHS, ResNetCifar
from eyebright.models.vgg import COLUMNS, VGG
from eyebright.models.zfnet import ZFNet

_LENET = "LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"
_ONE_TOWER = "Krizhevsky: One Weird Trick for Parallelizing Convolutional Neural Networks, arXiv 1404.5997"
_ALEXNET = "Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012"
_ZFNET = "Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014"
_GOOGLENET = "Szegedy et al.: Going Deeper with Convolutions, arXiv 1409.4842"
_V2 = "Ioffe, Szegedy: Batch Normalization: Accelerating Deep Network Training, arXiv 1502.03167"
_V3 = "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture, arXiv 1512.00567"
_V4 = "Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and Residual Connections, arXiv 1602.07261"
_RESNET = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385"

_AIRBENCH = "Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498"
_VGG = "Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556"


def _about(name: str, shape: Shape) -> str:
    if not shape.shortcuts:
        return "The residual network with its shortcuts taken out."
    if shape.stride_first:
        return "A residual network as in the paper: the first 1×1 of a bottleneck shrinks the map."
    return "A residual network" + (", in the form of libraries." if shape.bottleneck else ".")


_ENTRIES = (
    Entry("lenet5", LeNet5, "Two convolutions and three dense layers for digits, as it is built today.", 1998, _LENET),
    Entry(
        "lenet5_1998", LeNet5Original, "The original: pools that learn, partial connections, fixed codes for outputs.",
        1998, _LENET,
    ),
    Entry(
        "alexnet", AlexNet, "Five convolutions and three dense layers in one tower: what libraries call AlexNet.",
        2014, _ONE_TOWER,
    ),
    Entry(
        "alexnet_2012", AlexNet2012, "The original AlexNet: two halves, local response normalisation.", 2012, _ALEXNET
    ),
    Entry("zfnet", ZFNet, "AlexNet with finer first filters, found by looking at its features.", 2014, _ZFNET),
    *(
        Entry(name, partial(VGG, column), f"Stacks of 3×3 convolutions, {name[3:]} layers deep.", 2014, _VGG)
        for name, column in COLUMNS.items()
    ),
    *(
        Entry(
            f"{name}_bn", partial(VGG, column, style=STYLE),
            f"Stacks of 3×3 convolutions with batch norm, {name[3:]} layers deep: a later form.", 2014, _VGG,
        )
        for name, column in COLUMNS.items()
    ),
    Entry(
        "googlenet", partial(GoogLeNet, googlenet.LIBRARY),
        "Nine inception modules, in the form of libraries: batch norm, 3×3 for 5×5.", 2014, _GOOGLENET,
    ),
    Entry(
        "googlenet_2014", partial(GoogLeNet, googlenet.PAPER, style=WITHOUT_NORM),
        "Nine inception modules, as in the paper: biases, 5×5, local response normalisation.", 2014, _GOOGLENET,
    ),
    Entry("inception_v2", InceptionV2, "GoogLeNet with batch norm, and two 3×3 in the place of each 5×5.", 2015, _V2),
    Entry("inception_v3", InceptionV3, "Inception with large convolutions taken apart.", 2015, _V3),
    Entry("inception_v4", InceptionV4, "Inception with a deeper stem and one module for each size of map.", 2016, _V4),
    *(Entry(name, partial(ResNet, shape), _about(name, shape), 2015, _RESNET) for name, shape in SHAPES.items()),
    Entry(
        "airbench", Airbench, "The network of the CIFAR-10 speed records: whitened patches, three groups.",
        2024, _AIRBENCH,
    ),
    Entry(
        "cnn_cifar", CnnCifar, "A small net with batch norm, leaky ReLU and dropout that trains in minutes on a CPU."
    ),
    Entry("cnn_mnist", CnnMnist, "A small net with batch norm and dropout for digits."),
    Entry(
        "cnn_recitation", CnnRecitation,
        "A first net of one's own: two small convolutions and a dense layer, for two classes.",
    ),
    *(
        Entry(
            f"resnet{depth}_cifar", partial(ResNetCifar, blocks, True),
            "A residual network for 32×32 pictures, with zero-padding shortcuts.", 2015, _RESNET,
        )
        for depth, blocks in DEPTHS.items()
    ),
    *(
        Entry(
            f"plain{depth}_cifar", partial(ResNetCifar, blocks, False),
            "The residual network for 32×32 pictures with its shortcuts taken out.", 2015, _RESNET,
        )
        for depth, blocks in DEPTHS.items()
    ),
)  # fmt: skip

CATALOG: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def list_models() -> list[str]:
    """The names of all networks, in the catalog's order."""
    return list(CATALOG)


def find_entry(name: str) -> Entry:
    """The catalog's entry of that name.

    Raises:
        ModelError: no network has this name; the error names the nearest one.
    """
    if name not in CATALOG:
        raise ModelError(
            f"there is no network '{name}'",
            expected=f"one of {', '.join(CATALOG)}",
            remedy=did_you_mean(name, CATALOG) or "choose one of these names",
        )
    return CATALOG[name]
