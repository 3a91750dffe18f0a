from dataclasses import replace

import numpy as np
import pytest
import torch

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.errors import ModelError
from eyebright.inspection.saliency import Judgement, draw_saliency, explain, grad_cam, judge, occlude, say_saliency
from eyebright.models.create import create_model
from eyebright.training.fit import Fit
from eyebright.training.recipe import make_recipe

SIDE, PATCH = 32, 8
PLAN = choose_plan("cpu", "float32", training=False)


def planted(count, seed):
    """Noise with a small patch somewhere, of upright or level stripes or a chequerboard: that is the class; or none."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (count, SIDE, SIDE, 1), dtype=np.uint8)
    labels = np.arange(count) % 4
    places = random.integers(0, SIDE - PATCH + 1, (count, 2))
    rows, columns = np.indices((PATCH, PATCH))
    kinds = ((columns // 2) % 2, (rows // 2) % 2, (rows // 2 + columns // 2) % 2)
    for picture, label, (top, left) in zip(pixels, labels, places, strict=True):
        if label < 3:
            picture[top : top + PATCH, left : left + PATCH, 0] = 60 + 180 * kinds[label]
    return Images(pixels, labels, ("upright", "level", "chequered", "nothing")), places


@pytest.fixture(scope="module")
def finder():
    """A classifier that has learnt to tell the patches, and pictures that it has not seen, with the patches' places."""
    train, _ = planted(1200, 0)
    test, places = planted(80, 1)
    recipe = make_recipe(
        {
            "prepare": {"channels": 1, "mean": [0.5], "std": [0.5]},
            "model": {"name": "resnet20_cifar"},
            "training": {
                "epochs": 5, "batch_size": 64, "optimizer": "adam", "learning_rate": 2e-3, "schedule": "one_cycle",
                "number_format": "float32",
            },
        }
    )  # fmt: skip
    fit = Fit(recipe, Splits(train, None, test))
    for _ in fit:
        pass
    return fit.classifier(), test, places


def inputs_of(classifier, pictures, indices):
    return torch.cat([classifier.prepare(pictures.read(index, None)) for index in indices])


def test_grad_cam_lies_on_a_planted_patch(finder):
    classifier, pictures, places = finder
    inputs = inputs_of(classifier, pictures, range(80))
    answers = classifier.logits(inputs).argmax(1).numpy()
    assert (answers == pictures.labels).mean() > 0.95
    heat = grad_cam(classifier, inputs, pictures.labels)
    shares, on = [], 0
    for picture, (top, left) in zip(heat[pictures.labels < 3], places[pictures.labels < 3], strict=True):
        near = np.zeros((SIDE, SIDE), dtype=bool)
        near[max(0, top - 4) : top + PATCH + 4, max(0, left - 4) : left + PATCH + 4] = True
        shares.append(picture[near].sum() / max(picture.sum(), 1e-9))
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        on += near[row, column]
    assert np.mean(shares) > 0.7  # by chance about a fifth
    assert np.min(shares) > 0.5
    assert on >= 57  # of 60


def test_occlusion_finds_it_too(finder):
    classifier, pictures, places = finder
    on = 0
    for index in np.flatnonzero(pictures.labels < 3)[:20].tolist():
        heat = occlude(classifier, inputs_of(classifier, pictures, [index]), int(pictures.labels[index]))
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        top, left = places[index]
        on += top - 4 <= row < top + PATCH + 4 and left - 4 <= column < left + PATCH + 4
    assert on >= 18


def test_a_map_that_is_right_is_better_than_its_opposite(finder):
    classifier, pictures, _ = finder
    for index in (0, 1, 2, 4, 5, 6):
        inputs, label = inputs_of(classifier, pictures, [index]), int(pictures.labels[index])
        heat = grad_cam(classifier, inputs, np.array([label]))[0]
        right, wrong = judge(classifier, inputs, heat, label), judge(classifier, inputs, -heat, label)
        assert right.insertion_score > wrong.insertion_score
        assert right.insertion[-1] == right.deletion[0]  # the whole picture
        assert right.insertion[0] == wrong.insertion[0]
        assert not wrong.is_better_than_random


def test_grad_cam_is_what_its_definition_says():
    torch.manual_seed(0)
    model = create_model("resnet20_cifar", num_classes=4, seed=0).eval()
    classifier = Classifier(model, tuple("abcd"), Prepare(), plan=PLAN)
    inputs, targets = torch.randn(3, 3, 32, 32), np.array([0, 3, 2])
    kept = {}
    hook = list(model.stages().values())[-3][-1].register_forward_hook(lambda m, i, o: kept.update(maps=o))
    found = grad_cam(classifier, inputs, targets, stage=list(model.stages())[-3])
    logits = model(inputs)
    gradient = torch.autograd.grad(logits[range(3), torch.from_numpy(targets)].sum(), kept["maps"])[0]
    hook.remove()
    heat = torch.einsum("nkhw,nk->nhw", kept["maps"].detach(), gradient.mean((2, 3))).relu()
    heat = torch.nn.functional.interpolate(heat[:, None], size=(32, 32), mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-30)
    np.testing.assert_allclose(found, heat.numpy(), atol=1e-4)


def test_occlusion_is_what_its_definition_says():
    model = create_model("lenet5", num_classes=3, seed=0)
    classifier = Classifier(model, tuple("abc"), Prepare(channels=1), plan=PLAN)
    inputs = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = occlude(classifier, inputs, 1, side=10)
    whole = classifier.probabilities(classifier.logits(inputs))[0, 1].item()
    total, count = np.zeros((2, 32, 32))
    for top in (0, 5, 10, 15, 20, 22):
        for left in (0, 5, 10, 15, 20, 22):
            covered = inputs.clone()
            covered[0, :, top : top + 10, left : left + 10] = 0
            total[top : top + 10, left : left + 10] += (
                whole - classifier.probabilities(classifier.logits(covered))[0, 1].item()
            )
            count[top : top + 10, left : left + 10] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "side", "options"),
    [
        ("alexnet", 127, {}), ("vgg11", 64, {}), ("googlenet", 64, {}), ("inception_v3", 107, {}), ("resnet18", 64, {}),
        ("resnet18", 64, {"normalisation": "group"}), ("airbench", 32, {}), ("plain20_cifar", 32, {}),
    ],
)  # fmt: skip
def test_every_family_can_be_explained(name, side, options):
    model = create_model(name, num_classes=5, seed=0, **options)
    classifier = Classifier(model, tuple("abcde"), Prepare(), plan=PLAN)
    inputs = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    heat = grad_cam(classifier, inputs, np.array([1, 4]))
    assert heat.shape == (2, side, side)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert set(np.round(heat.max((1, 2)), 5)) <= {0.0, 1.0}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_single_output_speaks_for_both_classes():
    model = create_model("lenet5", num_classes=1, seed=0)
    classifier = Classifier(model, ("ant", "bee"), Prepare(channels=1), plan=PLAN)
    inputs = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ant, bee = (grad_cam(classifier, inputs, np.array([target]), "c3")[0] for target in (0, 1))
    assert np.corrcoef(ant.ravel(), bee.ravel())[0, 1] < -0.3  # what speaks for the one speaks against the other
    assert ant.max() == 1 or bee.max() == 1


def test_a_stage_without_places_is_refused():
    model = create_model("lenet5", num_classes=3, seed=0)
    classifier = Classifier(model, tuple("abc"), Prepare(channels=1), plan=PLAN)
    inputs = torch.randn(1, 1, 32, 32)
    with pytest.raises(ModelError, match=r"Grad-CAM of stage 'c33'") as caught:
        grad_cam(classifier, inputs, np.array([0]), "c33")
    assert "did you mean 'c3'?" in str(caught.value)
    with pytest.raises(ModelError, match="Grad-CAM of stage 'output'"):
        grad_cam(classifier, inputs, np.array([0]), "output")


def test_each_picture_has_a_row_and_the_sentences_count(finder):
    classifier, pictures, _ = finder
    explained = explain(classifier, pictures, np.array([0, 1, 2, 3]))
    assert [one.true for one in explained] == ["upright", "level", "chequered", "nothing"]
    assert explained[0].pixels.shape == (SIDE, SIDE, 1)
    figure = draw_saliency(explained)
    assert len(figure.axes) == 16
    assert "of 4 pictures" in say_saliency(explained)[0]
    curve = np.linspace(1, 0, 25)
    hopeless = Judgement(curve, curve[::-1] * 0, curve * 0.5, curve)
    assert not hopeless.is_better_than_random
    assert hopeless.deletion_score == pytest.approx(0.5)
    assert len(say_saliency([replace(one, judgement=hopeless) for one in explained])) == 2
