"""Prediction speed: pictures a second of every engine beside stock PyTorch, and how far their answers differ.

Pictures lie in memory, uint8, at the size that the network takes; every way normalises them itself. The ways take
turns, and the median of the rounds counts. Without `--run` weights and pictures are random.

    python bench/prediction.py --model resnet50 resnet18 alexnet --record records
    python bench/prediction.py --run runs/first --data photos --record records
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import by_plan, write_record
from rich.console import Console
from rich.table import Table
from torch import Tensor
from training import matrix_peak

from eyebright.classifier import Classifier
from eyebright.data.images import Images, Pictures
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.engines.build import ENGINES, build_engine
from eyebright.engines.choose import compare
from eyebright.errors import DataWarning, EngineError
from eyebright.inspection.summary import summarise
from eyebright.models.create import create_model
from eyebright.road import calibration_pictures, open_classifier, pictures_of

ASKED, CALIBRATING = 128, 304  # random pictures
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STOCK = "stock float32"

Way = Callable[[Tensor], Tensor]


def stock(classifier: Classifier, *, bfloat16: bool) -> Way:
    """Prediction as any PyTorch user writes it: float32 in PyTorch's own layout, or autocast in channels-last."""
    plan, prepare = classifier.plan, classifier.prepare
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    model = create_model(classifier.model.model_name, **classifier.model.model_options)
    model.load_state_dict(classifier.model.state_dict())
    model = model.to(plan.device).to(memory_format=layout).eval()  # type: ignore[call-overload]
    mean, std = (torch.tensor(values).view(-1, 1, 1).to(plan.device) for values in (prepare.mean, prepare.std))

    @torch.inference_mode()
    def answer(pixels: Tensor) -> Tensor:
        inputs = pixels.to(plan.device).permute(0, 3, 1, 2).float() / 255
        inputs = ((inputs - mean) / std).contiguous(memory_format=layout)
        kind = torch.device(plan.device).type
        with torch.autocast(kind, torch.bfloat16) if bfloat16 else nullcontext():
            logits: Tensor = model(inputs)
        return logits.float().cpu()

    return answer


def ours(classifier: Classifier) -> Way:
    """What `evaluate` does with every batch."""
    return lambda pixels: classifier.logits(classifier.prepare.normalise(classifier.plan.place_pixels(pixels)))


def find_ways(classifier: Classifier, calibrate: Pictures | None) -> tuple[dict[str, Way], dict[str, str]]:
    """Every way that works here; and for the others, why not."""
    ways = {STOCK: stock(classifier, bfloat16=False), "stock bfloat16": stock(classifier, bfloat16=True)}
    left_out = {}
    for name in ENGINES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # the agreement is measured below
                built = build_engine(classifier, name, calibrate)
            ways[built.engine_name] = ours(built)
        except EngineError as error:
            left_out[name] = error.problem
    return ways, left_out


def measure(
    classifier: Classifier, pixels: Tensor, calibrate: Pictures | None, given: argparse.Namespace
) -> dict[str, Any]:
    """Pictures a second of each way, round by round; and how its answers differ from those of stock float32."""
    ways, left_out = find_ways(classifier, calibrate)
    batches = pixels.split(given.batch)
    built, answers = {}, {}
    for name, way in list(ways.items()):
        started = time.perf_counter()
        try:
            way(batches[0])
        except EngineError as error:
            left_out[name] = error.problem
            del ways[name]
            continue
        built[name] = time.perf_counter() - started
        answers[name] = classifier.probabilities(torch.cat([way(batch) for batch in batches]))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            rates[name].append(pictures_a_second(way, batches[0], given.seconds))
    with torch.device("meta"):
        model = create_model(classifier.model.model_name, **classifier.model.model_options)
    operations = 2 * summarise(model, pixels.shape[1], pixels.shape[3]).multiply_adds
    rows = {}
    for name, runs in rates.items():
        median = statistics.median(runs)
        difference, agreement = compare(answers[name], answers[STOCK])
        rows[name] = {
            "images_per_second": median,
            "least": min(runs),
            "most": max(runs),
            "times_stock": statistics.median(own / its for own, its in zip(runs, rates[STOCK], strict=True)),
            "teraflops": median * operations / 1e12,
            "probability_difference": difference,
            "top1_agreement": agreement,
            "seconds_to_first_answer": built[name],
        }
    return {
        "pictures": len(pixels),
        "size": list(pixels.shape[1:]),
        "operations_per_image": operations,
        "ways": rows,
        "left_out": left_out,
        "runs": rates,
    }


def pictures_a_second(way: Way, batch: Tensor, seconds: float) -> float:
    """Whole batches for at least so many seconds."""
    done, started = 0, time.perf_counter()
    while True:
        way(batch)
        done += len(batch)
        if (taken := time.perf_counter() - started) >= seconds:
            return done / taken


def random_case(name: str, side: int | None, device: str) -> tuple[Classifier, Tensor, Pictures]:
    """A network with random weights, random pictures, and others to calibrate with."""
    model = create_model(name, seed=0)
    side, channels = side or model.default_input, model.in_channels
    classes = tuple(map(str, range(model.num_classes)))
    classifier = Classifier(
        model, classes, Prepare(channels=channels, mean=MEAN[:channels], std=STD[:channels]), plan=choose_plan(device)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (ASKED + CALIBRATING, side, side, channels), dtype=np.uint8)
    others = Images(pixels[ASKED:], np.zeros(CALIBRATING, dtype=np.int64), classes)
    return classifier, torch.from_numpy(pixels[:ASKED]), others


def trained_case(given: argparse.Namespace) -> tuple[Classifier, Tensor, Pictures | None]:
    """A run's classifier, test pictures as it sees them, and its training part to calibrate with."""
    classifier = open_classifier(given.run, device=given.device)
    pictures = pictures_of(given.data)
    chosen = np.linspace(0, len(pictures) - 1, min(given.most, len(pictures))).astype(int).tolist()
    prepare = classifier.prepare
    pixels = torch.stack([prepare.pixels(pictures.read(index, prepare.at_least)) for index in chosen])
    return classifier, pixels, calibration_pictures(given.run)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", nargs="+", default=["resnet50"])
    options.add_argument("--side", type=int, help="of random pictures, in pixels; default: the network's own")
    options.add_argument("--run", type=Path, help="a finished run, in the place of random weights")
    options.add_argument("--data", help="SOURCE whose test part is asked about, with --run")
    options.add_argument("--most", type=int, default=2000, help="pictures of it")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=10.0, help="of a way in a round, at least")
    options.add_argument("--device", default="cpu")
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    if (given.run is None) != (given.data is None):
        options.error("--run and --data belong together")
    peaks = {name: matrix_peak(name, given.device) for name in ("float32", "bfloat16")}
    results = {}
    table = Table(
        "network", "way", "images/s", "spread", "× stock", "of the peak", "largest difference", "same top-1", "first, s"
    )
    for name in [given.run.name] if given.run else given.model:
        case = trained_case(given) if given.run else random_case(name, given.side, given.device)
        results[name] = measure(*case, given)
        for way, row in results[name]["ways"].items():
            row["share_of_peak"] = row["teraflops"] * 1e12 / max(peaks.values())
            table.add_row(
                name if way == STOCK else "", way, f"{row['images_per_second']:.1f}",
                f"{row['least']:.1f}…{row['most']:.1f}", f"{row['times_stock']:.2f}", f"{row['share_of_peak']:.0%}",
                f"{row['probability_difference']:.1e}", f"{row['top1_agreement']:.2%}",
                f"{row['seconds_to_first_answer']:.1f}",
            )  # fmt: skip
        for engine, problem in results[name]["left_out"].items():
            Console(stderr=True).print(f"{name}: {engine} left out: {problem}", highlight=False)
    Console().print(table)
    if given.record:
        record = {"device": given.device, "batch": given.batch, "matrix_peak": peaks, "networks": results}
        write_record(given.record, by_plan(f"prediction-{'-'.join(results)}", given.device), record)


if __name__ == "__main__":
    main()
