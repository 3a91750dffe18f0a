"""Training as any PyTorch user writes it: Pillow in a DataLoader with two workers, one loop. What we are compared with.

    python bench/stock.py cifar10-jpeg/train --model alexnet --resize 70 --crop 64 --batch 256 --optimizer sgd

Nothing of eyebright's is used but the network itself, which is torchvision's to the last bit.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from contextlib import nullcontext
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

    def __init__(self, folder: Path, resize: int, crop: int, flip: bool):
        self.resize, self.crop, self.flip = resize, crop, flip
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
        if self.crop != self.resize:
            left, top = (random.randint(0, self.resize - self.crop) for _ in range(2))
            picture = picture.crop((left, top, left + self.crop, top + self.crop))
        if self.flip and random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, label


def train(given: argparse.Namespace) -> dict[str, float]:
    """Trains for so many seconds, or steps; gives pictures a second, the first steps not counted."""
    pictures = Folder(given.folder, given.resize, given.crop or given.resize, given.flip)
    loader = DataLoader(
        pictures, given.batch, shuffle=True, num_workers=2, drop_last=True, pin_memory=given.device != "cpu"
    )
    model = create_model(given.model, num_classes=pictures.classes).to(given.device)
    if given.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if given.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()
    model.train()
    steps, started = 0, time.perf_counter()
    while True:
        for inputs, labels in loader:
            inputs, labels = inputs.to(given.device, non_blocking=True), labels.to(given.device, non_blocking=True)
            if given.channels_last:
                inputs = inputs.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast(given.device, torch.bfloat16) if given.bfloat16 else nullcontext():
                loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            loss.item()
            steps += 1
            if steps == SETTLING_STEPS:
                started = time.perf_counter()
            seconds = time.perf_counter() - started
            if steps > SETTLING_STEPS and (seconds >= given.seconds or steps >= SETTLING_STEPS + given.most):
                images = (steps - SETTLING_STEPS) * given.batch
                return {"images_per_second": images / seconds, "steps": steps - SETTLING_STEPS}


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
    options.add_argument("--device", default="cpu")
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--most", type=int, default=1000, help="steps")
    print(json.dumps(train(options.parse_args())))


if __name__ == "__main__":
    main()
