"""Published weights: where they live, and what is to be done to a picture for them.

`WEIGHTS` names them: network → name of the weights → facts. The files of torchvision (BSD 3-clause; trained on ILSVRC
2012, GoogLeNet and Inception v3 by Google), of timm (Apache 2.0; Inception v4, trained by Google) and the widely used
CIFAR files (BSD 2-clause). Accuracy is what their publishers give: one centre crop, ILSVRC 2012 validation or CIFAR-10
test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eyebright.data.imagenet import imagenet_classes
from eyebright.data.prepare import Prepare
from eyebright.data.published import CIFAR10_CLASSES
from eyebright.errors import ModelError, did_you_mean

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5,), "std": (0.5,)}  # of the networks that Google trained: pixels from −1 to 1


@dataclass(frozen=True)
class Weights:
    """Facts about published weights.

    Attributes:
        url: of the file.
        sha256: the digits of its SHA-256 that its publisher gives; empty: none.
        licence: of the file.
        origin: who made it.
        prepare: what is done to every picture first.
        classes: class names in order.
        class_ids: what data sets call the same classes.
        top1: published accuracy, 0…1.
        top5: the same of the five most probable classes; None where it is not published.
    """

    url: str
    sha256: str
    licence: str
    origin: str
    prepare: Prepare
    classes: tuple[str, ...]
    class_ids: tuple[str, ...]
    top1: float
    top5: float | None

    @property
    def filename(self) -> str:
        """Under which the file is kept: its own name, or that of its repository where all files are called alike."""
        parts = self.url.split("/")
        return f"{parts[-4]}.safetensors" if parts[-1] == "model.safetensors" else parts[-1]


def _of_torchvision(
    file: str, top1: float, top5: float, resize: int = 256, crop: int = 224, scaling: Mapping[str, Any] = IMAGENET
) -> Weights:
    digits = file.rpartition("-")[2].removesuffix(".pth")
    prepare = Prepare(resize=resize, crop=crop, **scaling)
    return Weights(
        f"https://download.pytorch.org/models/{file}", digits, "BSD-3-Clause", "torchvision", prepare,
        *imagenet_classes(), round(top1 / 100, 5), round(top5 / 100, 5),
    )  # fmt: skip


def _of_cifar(file: str, error: float) -> Weights:
    digits = file.rpartition("-")[2].removesuffix(".th")
    home = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
    return Weights(
        home + file, digits, "BSD-2-Clause", "Y. Idelbayev, pytorch_resnet_cifar10", Prepare(**IMAGENET),
        CIFAR10_CLASSES, (), round(1 - error / 100, 4), None,
    )  # fmt: skip


_INCEPTION_V4 = Weights(
    "https://huggingface.co/timm/inception_v4.tf_in1k/resolve/main/model.safetensors", "", "Apache-2.0",
    "timm, converted from Google's", Prepare(resize=341, crop=299, interpolation="bicubic", **HALVES),
    *imagenet_classes(), 0.80144, 0.94968,
)  # fmt: skip

WEIGHTS: dict[str, dict[str, Weights]] = {
    "alexnet": {"imagenet": _of_torchvision("alexnet-owt-7be5be79.pth", 56.522, 79.066)},
    "vgg11": {"imagenet": _of_torchvision("vgg11-8a719046.pth", 69.020, 88.628)},
    "vgg13": {"imagenet": _of_torchvision("vgg13-19584684.pth", 69.928, 89.246)},
    "vgg16": {"imagenet": _of_torchvision("vgg16-397923af.pth", 71.592, 90.382)},
    "vgg19": {"imagenet": _of_torchvision("vgg19-dcbb9e9d.pth", 72.376, 90.876)},
    "vgg11_bn": {"imagenet": _of_torchvision("vgg11_bn-6002323d.pth", 70.370, 89.810)},
    "vgg13_bn": {"imagenet": _of_torchvision("vgg13_bn-abd245e5.pth", 71.586, 90.374)},
    "vgg16_bn": {"imagenet": _of_torchvision("vgg16_bn-6c64b313.pth", 73.360, 91.516)},
    "vgg19_bn": {"imagenet": _of_torchvision("vgg19_bn-c79401a0.pth", 74.218, 91.842)},
    "googlenet": {"imagenet": _of_torchvision("googlenet-1378be20.pth", 69.778, 89.530, scaling=HALVES)},
    "inception_v3": {"imagenet": _of_torchvision("inception_v3_google-0cc3c7bd.pth", 77.294, 93.450, 342, 299, HALVES)},
    "inception_v4": {"imagenet": _INCEPTION_V4},
    "resnet18": {"imagenet": _of_torchvision("resnet18-f37072fd.pth", 69.758, 89.078)},
    "resnet34": {"imagenet": _of_torchvision("resnet34-b627a593.pth", 73.314, 91.420)},
    "resnet50": {
        "imagenet": _of_torchvision("resnet50-0676ba61.pth", 76.130, 92.862),
        "imagenet-v2": _of_torchvision("resnet50-11ad3fa6.pth", 80.858, 95.434, 232),  # a later, longer training
    },
    "resnet101": {
        "imagenet": _of_torchvision("resnet101-63fe2227.pth", 77.374, 93.546),
        "imagenet-v2": _of_torchvision("resnet101-cd907fc2.pth", 81.886, 95.780, 232),
    },
    "resnet152": {
        "imagenet": _of_torchvision("resnet152-394f9c45.pth", 78.312, 94.046),
        "imagenet-v2": _of_torchvision("resnet152-f82ba261.pth", 82.284, 96.002, 232),
    },
    "resnet20_cifar": {"cifar10": _of_cifar("resnet20-12fca82f.th", 8.27)},
    "resnet32_cifar": {"cifar10": _of_cifar("resnet32-d509ac18.th", 7.37)},
    "resnet44_cifar": {"cifar10": _of_cifar("resnet44-014dd654.th", 6.90)},
    "resnet56_cifar": {"cifar10": _of_cifar("resnet56-4bfd9763.th", 6.61)},
    "resnet110_cifar": {"cifar10": _of_cifar("resnet110-1d1ed7c2.th", 6.32)},
}


def find_weights(model: str, weights: str, *, or_file: bool = True) -> Weights:
    """The facts of published weights.

    Args:
        model: the network's name.
        weights: the weights' name.
        or_file: whether a file might have been named as well; it only makes the error say so.

    Raises:
        ModelError: there are none of this name for this network.
    """
    known = WEIGHTS.get(model, {})
    if weights not in known:
        raise ModelError(
            f"{model} has no published weights called '{weights}'" + (", and there is no such file" if or_file else ""),
            expected=" or ".join([*known, *(["the path of a file"] if or_file else [])]) or "a network that has some",
            remedy=did_you_mean(weights, known) or f"weights are published for {', '.join(WEIGHTS)}",
        )
    return known[weights]
