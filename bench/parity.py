"""Our networks beside the libraries', with the same random weights on the same pictures: `make record NAME=parity`.

It needs torchvision and timm, which eyebright itself does not: `pip install --no-deps torchvision timm` beside torch.
Where torchvision's compiled operators do not load (beside a CPU build of torch), its networks still do.

With ``--photos photos.zip`` (or a folder) it also lays torchvision's preprocessing beside ours.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_record
from torch import nn

from eyebright.models.create import create_model
from eyebright.models.published import WEIGHTS

VISION = (
    "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "googlenet", "inception_v3",
)  # fmt: skip


def import_torchvision() -> Any:
    """Torchvision; where its compiled operators are missing, without the declarations of what they would give."""
    try:
        import torchvision
    except RuntimeError:
        declare = torch.library.register_fake

        def without_operators(name: Any, *arguments: Any, **options: Any) -> Any:
            if str(name).startswith("torchvision::"):
                return lambda function: function
            return declare(name, *arguments, **options)

        torch.library.register_fake = without_operators
        import torchvision
    return torchvision


def fill(model: nn.Module, random: torch.Generator) -> None:
    """Weights and statistics as after training: nothing is 0 or 1."""
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=random) * 0.1)
        elif value.dtype.is_floating_point and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=random) * 0.5 + 0.5)
        elif value.dtype.is_floating_point:
            value.copy_(torch.randn(value.shape, generator=random) * (1.5 / value[0].numel()) ** 0.5)


def without_chance(model: nn.Module) -> nn.Module:
    """In training mode, but without dropout and with running statistics, so that both compute the same."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.BatchNorm2d):
            layer.eval()
    return model


def compare(name: str, theirs: nn.Module, size: int) -> dict[str, Any]:
    """The largest difference of logits, those of auxiliary heads too, and the largest logit."""
    random = torch.Generator().manual_seed(0)
    fill(theirs, random)
    options = {"auxiliary_heads": True} if name in ("googlenet", "inception_v3") else {}
    ours = create_model(name, **options)
    ours.load_state_dict(theirs.state_dict())
    pictures = torch.randn(2, 3, size, size, generator=random)
    with torch.no_grad():
        answers = [(theirs.eval()(pictures), ours.eval()(pictures))]
        if options:
            found, (_, auxiliary) = without_chance(theirs)(pictures), without_chance(ours).forward_training(pictures)
            expected = [value for key, value in found._asdict().items() if "aux" in key]
            answers += zip(expected if name == "inception_v3" else expected[::-1], auxiliary, strict=True)
    difference = max(float((one - other).abs().max()) for one, other in answers)
    largest = max(float(one.abs().max()) for one, _ in answers)
    print(f"{name:14} at {size}: largest difference {difference:g}, largest logit {largest:.2f}", flush=True)
    return {"model": name, "size": size, "outputs": len(answers), "largest_difference": difference}


def compare_preprocessing(torchvision: Any, source: str) -> list[dict[str, Any]]:
    """Prepared pictures beside torchvision's, in steps of 8-bit grey."""
    from PIL import Image

    from eyebright.data.decode import decode_file
    from eyebright.data.sources import gather_pictures

    rows = []
    for name, title in (("resnet50", "ResNet50_Weights"), ("inception_v3", "Inception_V3_Weights")):
        theirs = getattr(torchvision.models, title).IMAGENET1K_V1.transforms()
        ours = WEIGHTS[name]["imagenet"].prepare
        differences = []
        for path in gather_pictures([source]):
            with Image.open(path) as picture:
                expected = theirs(picture.convert("RGB"))
            mean, std = (torch.tensor(getattr(theirs, key))[:, None, None] for key in ("mean", "std"))
            pixels = ours.pixels(decode_file(path, ours.at_least)).permute(2, 0, 1).float()
            differences.append(((expected * std + mean) * 255 - pixels).abs().mean().item())
        rows.append({
            "model": name, "pictures": len(differences), "mean_difference": round(float(np.mean(differences)), 3),
            "largest_mean_difference": round(max(differences), 3),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--photos", help="a folder or an archive of pictures, to compare preprocessing on")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there, as JSON")
    given = options.parse_args()
    torchvision = import_torchvision()
    import timm

    rows = []
    for name in VISION:
        extra = {"aux_logits": True, "transform_input": False} if name in ("googlenet", "inception_v3") else {}
        extra |= {"init_weights": False} if extra or name.startswith("vgg") else {}
        theirs = getattr(torchvision.models, name)(weights=None, **extra)
        rows.append(compare(name, theirs, 299 if name == "inception_v3" else 224))
    rows.append(compare("inception_v4", timm.create_model("inception_v4", pretrained=False), 299))
    figures = {"networks": rows, "torchvision": torchvision.__version__, "timm": timm.__version__}
    if given.photos:
        figures["preprocessing"] = compare_preprocessing(torchvision, given.photos)
    if given.record:
        write_record(given.record, "parity", figures)


if __name__ == "__main__":
    main()
