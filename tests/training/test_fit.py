import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from eyebright.classifier import Classifier
from eyebright.data.batches import Batch
from eyebright.data.images import Images
from eyebright.data.split import Splits, make_splits
from eyebright.device import choose_plan
from eyebright.errors import DataError, InputSizeError, RecipeError, RunError, TrainingDivergedError
from eyebright.evaluation.evaluate import evaluate
from eyebright.evaluation.multi_label import evaluate_any
from eyebright.training.fit import Fit, Report, StepReport
from eyebright.training.recipe import make_recipe


def pictures(count=96, classes=3, side=32, channels=1, seed=0):
    """Classes that a network can learn: a bright bar in another third of the picture."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = random.integers(0, 80, (count, side, side, channels), dtype=np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        picture[label * side // classes : (label + 1) * side // classes] += 120
    return Images(pixels, labels.astype(np.int64), tuple("abcdef"[:classes]))


def splits(**options):
    return make_splits({"train": pictures(**options), "test": pictures(24, seed=1, **options)}, val_fraction=0.25)


def recipe(model=None, prepare=None, augment=None, **training):
    return make_recipe(
        {
            "prepare": {"channels": 1, "mean": [0.5], "std": [0.5]} | (prepare or {}),
            "augment": augment or {},
            "model": {"name": "lenet5"} | (model or {}),
            "training": {"epochs": 2, "learning_rate": 2e-3, "batch_size": 16, "optimizer": "adam"} | training,
        }
    )


def weights_of(fit):
    return {name: value.clone() for name, value in fit.model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_it_learns_and_reports():
    fit = Fit(recipe(epochs=6), splits())
    reports = list(fit)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].val_accuracy == 1.0
    assert reports[-1].train_loss < 0.3 < reports[0].train_loss
    assert [report.step for report in reports] == [5, 10, 15, 20, 25, 30]  # 72 pictures in batches of 16
    assert evaluate(fit.classifier(), splits().test).top1 == 1.0


def test_the_reported_train_figures_are_means_over_pictures():
    fit = Fit(recipe(epochs=1), splits())
    reports = list(fit.steps())
    steps = [report for report in reports if isinstance(report, StepReport)]
    epoch = reports[-1]
    assert isinstance(epoch, Report)
    assert [step.images for step in steps] == [16, 16, 16, 16, 8]
    assert epoch.train_loss == pytest.approx(sum(step.loss * step.images for step in steps) / 72)


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    one, two, other = (Fit(recipe(augment={"rotation": 10}), splits(), seed=seed) for seed in (3, 3, 4))
    reports = [[(r.train_loss, r.val_loss) for r in fit] for fit in (one, two, other)]
    assert reports[0] == reports[1]
    assert_equal(weights_of(one), weights_of(two))
    assert reports[0] != reports[2]


def test_the_global_generator_is_not_touched():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(Fit(recipe(epochs=1), splits()))
    assert torch.equal(torch.rand(3), expected)


VARIANTS = {
    "sgd_plateau": {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "plateau", "patience_epochs": 1},
    "nesterov_multi_step": {
        "optimizer": "sgd", "nesterov": True, "schedule": "multi_step", "milestones": [1], "learning_rate": 0.05,
    },
    "adam_one_cycle": {"schedule": "one_cycle"},
    "adamw_average_clip": {"optimizer": "adamw", "weight_decay": 0.1, "ema_decay": 0.9, "clip_norm": 0.5},
    "accumulate_smoothing": {"accumulate": 3, "label_smoothing": 0.1, "class_weights": "balanced"},
    "bfloat16": {"number_format": "bfloat16"},
    "last": {"keep": "last", "warmup_epochs": 0.5},
    "sides": {"sides": [[0, 20], [0.5, 24]]},
    "skip_easy": {"skip_easy": [0.5, 0.6]},
}  # fmt: skip


@pytest.mark.parametrize("stop", [2, 5, 8, 10])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_is_bit_equal(variant, stop):
    settings = recipe(augment={"rotation": 5}, model={"name": "cnn_mnist"}, epochs=3, **VARIANTS[variant])
    straight = Fit(settings, splits(), seed=1)
    reports = [report for report in straight.steps() if isinstance(report, Report)]

    broken = Fit(settings, splits(), seed=1)
    for report in broken.steps():
        if report.step == stop:
            break
    resumed = Fit(settings, splits(), seed=1)
    resumed.load_state(broken.state())
    again = [report for report in resumed.steps() if isinstance(report, Report)]

    def timeless(report):
        return replace(report, seconds=0.0, images_per_second=0.0)

    assert [timeless(r) for r in again] == [timeless(r) for r in reports[-len(again) :]]
    assert_equal(weights_of(straight), weights_of(resumed))
    assert_equal(straight.state().tensors, resumed.state().tensors)
    assert_equal(straight.classifier().model.state_dict(), resumed.classifier().model.state_dict())


EVERY_AUGMENTATION = {
    "random_crop": True, "padding": 2, "rotation": 5, "perspective": 0.2, "brightness": 0.1, "contrast": 0.1,
    "blur": [0.1, 1], "rand_augment": [1, 5], "cutout": 4, "erasing": 0.3, "mixup": 0.5, "cutmix": 0.5,
}  # fmt: skip
AUGMENTATIONS = {
    "crop and flip": EVERY_AUGMENTATION | {"horizontal_flip": 0.5},
    "resized crop and alternating flip": {
        key: value for key, value in EVERY_AUGMENTATION.items() if key not in ("random_crop", "padding")
    } | {"random_resized_crop": [0.5, 1], "alternating_flip": True},
}  # fmt: skip


@pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 3, "class_weights": "balanced", "label_smoothing": 0.1}], ids=str
)
@pytest.mark.parametrize("stop", [3, 7])
def test_with_every_augmentation_a_resumed_run_is_bit_equal(augment, settings, stop):
    settings = recipe(augment=augment, prepare={"crop": 32}, epochs=2, **settings)
    straight = Fit(settings, splits(), seed=1)
    for _ in straight:
        pass
    broken = Fit(settings, splits(), seed=1, workers=2)
    for report in broken.steps():
        if report.step == stop:
            break
    resumed = Fit(settings, splits(), seed=1, workers=1)
    resumed.load_state(broken.state())
    for _ in resumed:
        pass
    assert_equal(straight.state().tensors, resumed.state().tensors)


def test_easy_pictures_are_shown_less_often():
    data = Splits(pictures(150), None, pictures(24, seed=1))
    shown = []
    fit = Fit(recipe(epochs=6, skip_easy=[0.5, 0.6]), data, on_logits=lambda indices, logits: shown.append(indices))
    assert fit.loader.steps == -(-105 // 16)
    list(fit)
    epochs = [np.concatenate(shown[first : first + 7]) for first in range(0, 42, 7)]
    assert [len(set(epoch.tolist())) for epoch in epochs] == [105] * 6
    answers = torch.from_numpy(np.concatenate([data.train.labels[epoch] for epoch in epochs]))
    assert answers.bincount(minlength=3).min() > 0
    assert fit.selection.losses.isfinite().all()


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "binary_cross_entropy"])
def test_what_is_easy_is_told_by_the_cross_entropy_of_each_picture(loss):
    classes = 2 if loss == "binary_cross_entropy" else 3
    said = {}
    fit = Fit(
        recipe(epochs=1, loss=loss, skip_easy=[0.5, 0.5]),
        splits(classes=classes),
        on_logits=lambda indices, logits: said.update(zip(indices.tolist(), logits, strict=True)),
    )
    list(fit)
    for index, logits in said.items():
        two = torch.stack([torch.zeros(1), logits], 1)[0] if classes == 2 else logits
        expected = -two.log_softmax(0)[fit.loader.pictures.labels[index]]
        torch.testing.assert_close(fit.selection.losses[index], expected, rtol=1e-4, atol=1e-5)


def test_training_takes_the_kernels_of_its_plan(calls, monkeypatch):
    own = choose_plan("cpu")
    settings = recipe(model={"name": "cnn_mnist", "dropout": 0.2}, epochs=1)
    torchs = Fit(settings, splits(), plan=replace(own, kernels="torch"))
    list(torchs)
    assert not calls
    if own.kernels == "torch":
        pytest.skip("no C++ compiler here")
    ours = Fit(settings, splits(), plan=own)
    (report,) = ours
    assert set(calls) - {"convolve", "convolve_weights"} == {"forward", "backward", "pool", "unpool", "drop"}
    assert calls.count("forward") == calls.count("backward")
    assert calls.count("pool") == calls.count("unpool")
    assert report.train_loss == next(iter(Fit(settings, splits(), plan=own))).train_loss
    monkeypatch.setattr("eyebright.device.load_kernels", lambda: None)
    assert (
        next(iter(Fit(settings, splits(), plan=own))).train_loss
        == next(iter(Fit(settings, splits(), plan=torchs.plan))).train_loss
    )


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adam", "adamw", "average", "head first", "head first, adam"])
def test_with_copies_of_weights_training_is_that_of_torch_and_goes_on_to_the_last_bit(kind, calls, monkeypatch):
    monkeypatch.setattr("eyebright.kernels.copies.LEAST_WEIGHTS", 2**13)
    plan = choose_plan("cpu", number_format="bfloat16")
    kinds = {
        "momentum": {"optimizer": "sgd", "momentum": 0.9},
        "nesterov": {"optimizer": "sgd", "nesterov": True, "weight_decay": 0.1},
        "adam": {"optimizer": "adam"},
        "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
        "average": {"optimizer": "sgd", "ema_decay": 0.9},
        "head first": {"optimizer": "sgd", "head_epochs": 1},
        "head first, adam": {"optimizer": "adam", "head_epochs": 1},
    }
    settings = recipe(observe_steps=3, **kinds[kind] | {"learning_rate": 1e-3, "number_format": "bfloat16"})
    straight = Fit(settings, splits(), seed=1, plan=plan)
    reports = list(straight)
    assert {name for name in calls if name.startswith("descend")} == {"descend_adam" if "adam" in kind else "descend"}
    calls.clear()
    torchs = Fit(settings, splits(), seed=1, plan=replace(plan, kernels="torch"))
    first = Fit(settings, splits(), seed=1, plan=plan).model.f6[0].weight
    for one, other in zip(reports, torchs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=0.05)
    moved, wanted = (fit.model.f6[0].weight - first for fit in (straight, torchs))
    assert (moved - wanted).norm() < 0.2 * wanted.norm()
    assert not calls
    for stop in (2, 5, 7):
        broken = Fit(settings, splits(), seed=1, plan=plan)
        for report in broken.steps():
            if report.step == stop and not isinstance(report, Report):
                break
        resumed = Fit(settings, splits(), seed=1, plan=plan)
        next(resumed.steps())  # its copies are made, and then of other weights
        resumed.load_state(broken.state())
        list(resumed)
        assert_equal(weights_of(straight), weights_of(resumed))
        assert_equal(straight.state().tensors, resumed.state().tensors)


def test_the_network_sees_small_pictures_at_first_and_is_evaluated_on_whole_ones():
    wide = Images(np.tile(pictures(64, channels=3).pixels, (1, 1, 2, 1)), pictures(64).labels, ("a", "b", "c"))
    settings = recipe(
        model={"name": "cnn_cifar"},
        prepare={"channels": 3},
        epochs=2,
        sides=[[0, 16], [0.5, 24], [0.75, 40]],
        observe_steps=0,
    )
    seen = []
    fit = Fit(settings, make_splits({"train": wide, "test": wide}, val_fraction=0.25))
    fit.model.register_forward_pre_hook(lambda model, given: seen.append(tuple(given[0].shape[2:])))
    list(fit)
    small, middle, whole = (16, 32), (24, 48), (32, 64)
    assert seen == [small] * 3 + [whole] + [middle] * 2 + [whole] * 2
    assert fit.size_at(0, (64, 32)) == (32, 16)

    inputs = torch.rand(2, 3, 32, 64)
    halves = torch.nn.functional.interpolate(inputs, scale_factor=0.5, mode="bilinear", antialias=True)
    fit.step = 0
    torch.testing.assert_close(fit._shrink(inputs), halves)
    assert fit._shrink(inputs).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_what_the_network_answered_is_told_before_it_learns(accumulate, float32):
    told = []
    settings = {"accumulate": accumulate, "optimizer": "sgd", "learning_rate": 0.1}
    fit = Fit(recipe(**settings), splits(), on_logits=lambda indices, logits: told.append((indices, logits)))
    untrained = copy.deepcopy(fit.model)
    reports = list(fit.steps())
    steps = [report for report in reports if isinstance(report, StepReport)]
    assert [len(indices) for indices, _ in told] == [step.images for step in steps]
    first = next(iter(fit.loader.batches(0)))
    indices, logits = told[0]
    np.testing.assert_array_equal(indices, first.indices)
    assert logits.dtype == torch.float32 and not logits.requires_grad
    torch.testing.assert_close(logits, untrained.train()(first.inputs).detach(), rtol=1e-4, atol=1e-5)
    epoch = np.concatenate([indices for indices, _ in told[: steps[0].steps_per_epoch]])
    assert sorted(epoch.tolist()) == list(range(len(fit.loader.pictures)))


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "binary_cross_entropy"])
@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_every_loss_learns_from_mixed_pictures(loss, mixing):
    fit = Fit(recipe(epochs=8, loss=loss, augment={mixing: 0.5}), splits(classes=2))
    reports = list(fit)
    assert reports[-1].val_accuracy == 1.0
    assert reports[-1].train_loss < reports[0].train_loss


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_of_mixed_pictures_the_larger_share_is_the_right_answer(monkeypatch, share):
    fit = Fit(recipe(epochs=1), splits())
    monkeypatch.setattr(fit, "_answer", lambda inputs: (one_hot(inputs), ()))
    parameter = next(fit.model.parameters())

    def one_hot(inputs):  # always class 2
        return torch.tensor([0.0, 0.0, 1.0]).expand(len(inputs), 3) + 0 * parameter.sum()

    labels, partners = torch.tensor([2, 2, 2, 0]), torch.tensor([2, 0, 2, 2])
    batch = Batch(torch.zeros(4, 1, 32, 32), labels, np.arange(4), partners, share)
    fit._train_step(batch)
    assert fit._totals.right == 3
    monkeypatch.setattr(fit, "_totals", type(fit._totals)())
    fit._train_step(replace(batch, labels=torch.tensor([2, 0, 0, 0]), partner_labels=torch.tensor([0, 0, 0, 2])))
    assert fit._totals.right == 1


def test_a_mixture_in_pieces_has_the_gradient_of_the_whole(float32):
    settings = {"optimizer": "sgd", "learning_rate": 0.1, "class_weights": [1, 2, 3]}
    whole, pieces = (Fit(recipe(accumulate=n, augment={"mixup": 1.0}, **settings), splits()) for n in (1, 4))
    for fit in (whole, pieces):
        next(fit.steps())
    for one, other in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_leaving_early_leaves_usable_weights_and_no_threads():
    before = threading.active_count()
    fit = Fit(recipe(epochs=50), splits(), workers=2)
    for report in fit.steps():
        if report.step == 3:
            break
    assert threading.active_count() == before
    assert evaluate(fit.classifier(), splits().test).count == 24
    assert next(iter(fit)).epoch == 1  # and it goes on


def test_what_the_caller_does_is_not_training_time(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.001  # each look at the clock takes a millisecond, and nothing else takes any time
        return now[0]

    monkeypatch.setattr("eyebright.training.fit.time.perf_counter", clock)
    fit = Fit(recipe(epochs=2), splits())
    seconds = []
    for report in fit.steps():
        now[0] += 1000  # the caller is slow
        if isinstance(report, Report):
            seconds.append(report.seconds)
    assert seconds == pytest.approx([0.006, 0.006])  # five steps and the end of the epoch


def test_a_batch_in_pieces_has_the_gradient_of_the_whole(float32):
    whole, pieces = (Fit(recipe(accumulate=n, optimizer="sgd", learning_rate=0.1), splits()) for n in (1, 4))
    for fit in (whole, pieces):
        next(fit.steps())
    for one, other in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_best_weights_are_kept_and_the_last_ones_if_asked():
    # a rate that ruins the weights in the second half: the best are those of the first
    settings = {"epochs": 4, "optimizer": "sgd", "schedule": "constant"}
    fit = Fit(recipe(**settings), splits())
    snapshots = []
    for report in fit:
        snapshots.append((report.best, weights_of(fit)))
        with torch.no_grad():
            if report.epoch == 2:
                for parameter in fit.model.parameters():
                    parameter.mul_(-3)
    best = [weights for is_best, weights in snapshots if is_best][-1]
    assert_equal(fit.classifier().model.state_dict(), best)
    kept_last = Fit(recipe(keep="last", **settings), splits())
    list(kept_last)
    assert_equal(kept_last.classifier().model.state_dict(), weights_of(kept_last))


def test_without_validation_nothing_is_chosen():
    parts = {"train": pictures(), "test": pictures(24, seed=1)}
    fit = Fit(recipe(), make_splits(parts, val_fraction=0))
    reports = list(fit)
    assert [(r.val_loss, r.val_accuracy, r.best) for r in reports] == [(None, None, False)] * 2
    assert_equal(fit.classifier().model.state_dict(), weights_of(fit))


def test_early_stopping_ends_the_run():
    fit = Fit(recipe(epochs=50, early_stop_epochs=2, learning_rate=1e-9), splits())
    assert len(list(fit)) == 3
    assert fit.finished


def test_the_average_is_what_is_evaluated_and_kept():
    fit = Fit(recipe(ema_decay=0.99, keep="last"), splits())
    list(fit)
    assert_equal(fit.classifier().model.state_dict(), fit.average.model.state_dict())
    assert not torch.equal(fit.average.model.head.weight, fit.model.head.weight)


def test_gradient_clipping_bounds_the_step():
    settings = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "epochs": 1}
    fit = Fit(recipe(clip_norm=0.01, **settings), splits())
    before = torch.cat([p.detach().clone().flatten() for p in fit.model.parameters()])
    next(fit.steps())
    after = torch.cat([p.detach().flatten() for p in fit.model.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_one_sigmoid_output_learns_two_classes():
    fit = Fit(recipe(epochs=5, loss="binary_cross_entropy"), splits(classes=2))
    assert fit.model.head.out_features == 1
    reports = list(fit)
    assert reports[-1].val_accuracy == 1.0
    evaluation = evaluate(fit.classifier(), splits(classes=2).test)
    assert evaluation.top1 == 1.0
    assert evaluation.probabilities.sum(axis=1) == pytest.approx(np.ones(24))


def test_computed_statistics_are_those_of_the_training_part():
    data = splits()
    fit = Fit(recipe(prepare={"statistics": "train", "mean": [0], "std": [1]}), data)
    unit = data.train.pixels / 255
    assert fit.prepare.mean == pytest.approx((unit.mean(),), abs=1e-6)
    assert fit.prepare.std == pytest.approx((unit.std(),), abs=1e-6)


def test_a_loss_that_is_not_finite_names_step_and_pictures():
    settings = recipe(model={"nonlinearity": "relu"}, optimizer="sgd", learning_rate=1e30, epochs=5)
    fit = Fit(settings, splits())
    with pytest.raises(TrainingDivergedError, match=r"(?s)step \d+ of epoch \d.*picture \d+.*learning_rate"):
        list(fit)


def test_after_a_loss_that_is_not_finite_weights_with_copies_take_float32_gradients_again(kernels, monkeypatch):
    monkeypatch.setattr("eyebright.kernels.copies.LEAST_WEIGHTS", 2**13)
    plan = choose_plan("cpu", number_format="bfloat16")
    fit = Fit(
        recipe(model={"nonlinearity": "relu"}, optimizer="sgd", learning_rate=1e30, epochs=5), splits(), plan=plan
    )
    with pytest.raises(TrainingDivergedError):
        list(fit)
    (weight,) = fit.copies.weights
    assert weight.grad is None
    assert weight.grad_dtype == torch.float32


def test_a_head_on_embeddings_multiplies_by_its_copy(kernels, calls, monkeypatch):
    monkeypatch.setattr("eyebright.kernels.copies.LEAST_WEIGHTS", 84 * 3)
    fit = Fit(recipe(freeze=["*", "!head"], embeddings=True, epochs=1), splits(), plan=choose_plan("cpu", "bfloat16"))
    asked, of = [], fit.copies.of
    monkeypatch.setattr(fit.copies, "of", lambda weight: asked.append(weight) or of(weight))
    list(fit)
    head = fit.model.head.weight
    assert sum(weight is head for weight in asked) == 2 * fit.step  # by the layer and by the step
    assert calls.count("descend_adam") == fit.step


def test_the_averaged_weights_are_rounded_once_for_a_batch(casts):
    fit = Fit(recipe(ema_decay=0.9), splits(), plan=choose_plan("cpu", "bfloat16"))
    classifier = fit._as_classifier(fit.average.model)
    with casts:
        classifier.logits(torch.zeros(64, 1, 32, 32))
    shape = tuple(fit.model.f6[0].weight.shape)
    assert casts.shapes[shape] == 1


def test_infinite_weights_never_reach_a_report():
    fit = Fit(recipe(), splits())
    with pytest.raises(TrainingDivergedError, match="weights are no longer finite"):
        for report in fit.steps():
            assert isinstance(report, StepReport)
            if report.step_in_epoch == report.steps_per_epoch:
                with torch.no_grad():
                    fit.model.head.bias[0] = float("inf")


@pytest.mark.parametrize(
    ("settings", "data", "error", "says"),
    [
        (recipe(loss="binary_cross_entropy"), splits(), RecipeError, "for 3 classes"),
        (recipe(prepare={"resize": [30, 30]}), splits(), InputSizeError, "exactly 32×32"),
        (recipe(model={"name": "alexnet"}), splits(), InputSizeError, "at least 63×63"),
        (recipe(model={"name": "resnet18", "normalisation": "instance"}), splits(), InputSizeError, "maps of 1×1"),
        (recipe(class_weights=[1, 2]), splits(), RecipeError, "2 numbers"),
        (recipe(sides=[[0, 16]]), splits(), RecipeError, r"shrinks pictures of 32×32 to 16: lenet5 was given"),
        (
            recipe(
                model={"name": "resnet18", "normalisation": "instance"}, prepare={"resize": [64, 64]}, sides=[[0, 32]]
            ),
            splits(), RecipeError, r"shrinks pictures of 64×64 to 32: instance normalisation was given maps of 1×1",
        ),
        (recipe(), Splits(pictures(), None, pictures(0)), DataError, "test part has no pictures"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_training(settings, data, error, says):
    with pytest.raises(error, match=says):
        Fit(settings, data)


def test_a_state_of_another_run_is_refused():
    state = Fit(recipe(), splits(), seed=1).state()
    with pytest.raises(RunError, match="seed 1, this run 2"):
        Fit(recipe(), splits(), seed=2).load_state(state)
    with pytest.raises(RunError, match="does not belong"):
        Fit(recipe(model={"name": "cnn_mnist"}), splits(), seed=1).load_state(state)


@pytest.mark.cuda
def test_on_a_gpu_it_learns_too():
    fit = Fit(recipe(epochs=6), splits(), plan=choose_plan("cuda"))
    assert list(fit)[-1].val_accuracy == 1.0


def googlenet(**training):
    return recipe(epochs=1, prepare={"resize": [32, 32]}, model={"name": "googlenet"}, **training)


def test_auxiliary_heads_are_trained_and_then_left_behind():
    fit = Fit(googlenet(auxiliary_weight=0.3), splits(), seed=0)
    before = weights_of(fit)
    assert any(name.startswith("aux1.") for name in before)
    report = next(iter(fit))
    assert report.val_loss is not None
    after = weights_of(fit)
    for name in ("aux1.fc2.weight", "aux2.conv.conv.weight"):
        assert not torch.equal(before[name], after[name])
    classifier = fit.classifier()
    assert not [name for name in classifier.model.state_dict() if name.startswith("aux")]
    assert classifier.model.model_options["auxiliary_heads"] is False
    resumed = Fit(googlenet(auxiliary_weight=0.3), splits(), seed=0)
    resumed.load_state(fit.state())
    assert_equal(weights_of(resumed), after)
    plain = Fit(googlenet(), splits(), seed=0)
    assert plain.model.auxiliary_heads() == {}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (lambda: recipe(auxiliary_weight=0.3), "which has no auxiliary heads"),
        (
            lambda: recipe(model={"name": "googlenet", "auxiliary_heads": True}, prepare={"resize": [32, 32]}),
            "model.auxiliary_heads = True with training.auxiliary_weight = 0.0",
        ),
    ],
)
def test_auxiliary_heads_that_mean_nothing_are_refused(settings, says):
    with pytest.raises(RecipeError, match=says):
        Fit(settings(), splits())


def several(count=96, seed=0):
    """Pictures whose thirds are bright or not, each by itself: three labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (count, 3))
    pixels = random.integers(0, 80, (count, 32, 32, 1), dtype=np.uint8)
    for picture, row in zip(pixels, labels, strict=True):
        for third in np.flatnonzero(row):
            picture[10 * third : 10 * third + 10] += 120
    return Images(pixels, labels, tuple("abc"))


@pytest.fixture(scope="module")
def several_splits():
    return make_splits({"train": several(), "test": several(24, seed=1)}, val_fraction=0.25)


def test_several_labels_are_learnt(several_splits, tmp_path):
    fit = Fit(recipe(epochs=20, loss="binary_cross_entropy", accumulate=2), several_splits)
    reports = list(fit)
    assert reports[-1].val_accuracy > 0.9 and reports[-1].train_loss < 0.2 < reports[0].train_loss
    evaluation = evaluate_any(Classifier(fit.model, fit.classes, fit.prepare, {"multi_label": True}), fit.val)
    assert (evaluation.loss, evaluation.accuracy) == (reports[-1].val_loss, reports[-1].val_accuracy)
    fit.classifier().save(tmp_path / "c.safetensors")
    classifier = Classifier.load(tmp_path / "c.safetensors")
    assert classifier.multi_label
    test = several_splits.test
    assert evaluate_any(classifier, test).accuracy > 0.9
    for index in range(3):
        names = {name for name, _ in classifier(test.pixels[index]).above()}
        assert names == {name for name, there in zip("abc", test.labels[index], strict=True) if there}


def test_several_labels_resume_exactly(several_splits):
    settings = recipe(epochs=2, loss="binary_cross_entropy")
    straight, stopped = Fit(settings, several_splits), Fit(settings, several_splits)
    reports = list(straight)
    next(iter(stopped))
    resumed = Fit(settings, several_splits)
    resumed.load_state(stopped.state())
    again = list(resumed)
    assert (again[-1].train_loss, again[-1].val_loss) == (reports[-1].train_loss, reports[-1].val_loss)
    assert_equal(weights_of(straight), weights_of(resumed))


def test_several_labels_need_their_loss(several_splits, refuses):
    with refuses(RecipeError, 'loss = "cross_entropy", .* for pictures of several labels'):
        Fit(recipe(), several_splits)
