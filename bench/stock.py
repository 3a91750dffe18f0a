"""Training as any PyTorch user writes it: Pillow in a DataLoader with two workers, one loop. What we are compared with.

    python bench/stock.py cifar10-jpeg/train --model alexnet --resize 70 --crop 64 --batch 256 --optimizer sgd
    python bench/stock.py … --epochs 3 --test cifar10-jpeg/test

Nothing of eyebright's is used but the network itself, which is torchvision's to the last bit.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from eyebright.models.create import create_model

SETTLING_STEPS = 2


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """Pictures in class folders, decoded, resized, perhaps cut and mirrored at random, and normalised."""

    def __init__(self, folder: Path, resize: int, crop: int, padding: int = 0, flip: bool = False, chance: bool = True):
        self.resize, self.crop, self.padding, self.flip, self.chance = resize, crop, padding, flip, chance
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.samples = [
            (path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())
        ]
        self.classes = len(classes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.samples[index]
        with Image.open(path) as file:
            picture = file.convert("RGB")
        if picture.size != (self.resize, self.resize):
            picture = picture.resize((self.resize, self.resize), Image.Resampling.BILINEAR)
        spare = self.resize + 2 * self.padding - self.crop
        if spare:
            left, top = (random.randint(0, spare) if self.chance else spare // 2 for _ in range(2))
            left, top = left - self.padding, top - self.padding
            picture = picture.crop((left, top, left + self.crop, top + self.crop))
        if self.flip and self.chance and random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, label


def answer(model: nn.Module, inputs: torch.Tensor, given: argparse.Namespace) -> torch.Tensor:
    """Logits, in the number format and layout that were asked for."""
    inputs = inputs.to(given.device, non_blocking=True)
    if given.channels_last:
        inputs = inputs.to(memory_format=torch.channels_last)
    with torch.autocast(given.device, torch.bfloat16, enabled=given.bfloat16):
        logits: torch.Tensor = model(inputs)
    return logits


def train(given: argparse.Namespace) -> dict[str, float]:
    """Trains for so many epochs, or seconds, or steps; gives pictures a second, the first steps not counted."""
    pictures = Folder(given.folder, given.resize, given.crop or given.resize, given.padding, given.flip)
    loader = DataLoader(
        pictures, given.batch, shuffle=True, num_workers=2, drop_last=True, pin_memory=given.device != "cpu"
    )
    most = given.epochs * len(loader) if given.epochs else SETTLING_STEPS + given.most
    model = create_model(given.model, num_classes=pictures.classes).to(given.device)
    if given.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if given.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=given.rate, momentum=0.9, weight_decay=given.decay)
    criterion = nn.CrossEntropyLoss()
    model.train()
    steps, started = 0, time.perf_counter()
    while True:
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(answer(model, inputs, given).float(), labels.to(given.device, non_blocking=True))
            loss.backward()
            optimizer.step()
            loss.item()
            steps += 1
            if steps == SETTLING_STEPS:
                started = time.perf_counter()
            seconds = time.perf_counter() - started
            if steps >= most or (steps > SETTLING_STEPS and seconds >= given.seconds and not given.epochs):
                images = (steps - SETTLING_STEPS) * given.batch
                found = {"images_per_second": images / seconds, "steps": steps - SETTLING_STEPS}
                return found | ({"accuracy": test(model, given)} if given.test else {})


@torch.no_grad()
def test(model: nn.Module, given: argparse.Namespace) -> float:
    """The share of right answers."""
    model.eval()
    pictures = Folder(given.test, given.resize, given.crop or given.resize, chance=False)
    right = 0
    for inputs, labels in DataLoader(pictures, given.batch, num_workers=2):
        right += int((answer(model, inputs, given).argmax(1).cpu() == labels).sum())
    return right / len(pictures)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", required=True)
    options.add_argument("--resize", type=int, required=True)
    options.add_argument("--crop", type=int)
    options.add_argument("--flip", action="store_true")
    options.add_argument("--batch", type=int, required=True)
    options.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    options.add_argument("--bfloat16", action="store_true")
    options.add_argument("--channels-last", action="store_true")
    options.add_argument("--padding", type=int, default=0)
    options.add_argument("--rate", type=float, default=0.01)
    options.add_argument("--decay", type=float, default=5e-4)
    options.add_argument("--epochs", type=int, help="instead of seconds and steps")
    options.add_argument("--test", type=Path, metavar="FOLDER", help="pictures to answer in the end")
    options.add_argument("--device", default="cpu")
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--most", type=int, default=1000, help="steps")
    print(json.dumps(train(options.parse_args())))


if __name__ == "__main__":
    main()
