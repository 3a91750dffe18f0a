from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from eyebright.classifier import ROWS, Classifier, Prediction
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.errors import DataError, InputSizeError, PictureError, StoredFileError
from eyebright.models.catalog import list_models
from eyebright.models.create import create_model
from eyebright.tensors import write_safetensors

CLASSES = ("cat", "dog", "frog")


def make_classifier(name="cnn_cifar", **prepare):
    return Classifier(create_model(name, num_classes=3, seed=0), CLASSES, Prepare(**prepare))


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_saved_and_loaded_it_answers_bit_for_bit_the_same(tmp_path, picture):
    classifier = make_classifier(resize=(36, 36), crop=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    classifier.facts = {"licence": "CC0", "metrics": {"top1": 0.5}}
    classifier.save(tmp_path / "c.safetensors")
    loaded = Classifier.load(tmp_path / "c.safetensors")
    assert (loaded.classes, loaded.prepare, loaded.facts) == (CLASSES, classifier.prepare, classifier.facts)
    assert loaded(picture).probabilities == classifier(picture).probabilities


def test_a_prediction_names_its_best_classes(picture):
    prediction = make_classifier(resize=(32, 32))(picture)
    top = prediction.top(2)
    assert [share for _, share in top] == sorted(prediction.probabilities, reverse=True)[:2]
    assert prediction.best == top[0][0]
    assert sum(prediction.probabilities) == pytest.approx(1)
    assert prediction.best in str(prediction)


def test_paths_arrays_and_pil_images_are_the_same_picture(tmp_path, picture):
    classifier = make_classifier(resize=(32, 32))
    Image.fromarray(picture).save(tmp_path / "p.png")
    answers = classifier([tmp_path / "p.png", str(tmp_path / "p.png"), picture, Image.fromarray(picture)])
    assert len({answer.probabilities for answer in answers}) == 1


def test_pictures_of_different_shapes_go_in_together(picture):
    classifier = make_classifier(resize=32)  # the aspect is kept, so the network sees different shapes
    tall, grey = picture.transpose(1, 0, 2).copy(), picture[..., 0]
    together = classifier([picture, tall, grey, picture])
    assert together[0].probabilities == together[3].probabilities
    assert together[1].probabilities == classifier(tall).probabilities


def test_weights_are_rounded_once_for_all_pieces_of_a_batch(casts):
    classifier = make_classifier()
    classifier.plan = choose_plan("cpu", number_format="bfloat16")
    with casts:
        classifier.logits(torch.zeros(4 * ROWS, 3, 32, 32))
    weights = [tuple(p.shape) for p in classifier.model.parameters() if p.dim() > 1]
    assert {shape: casts.shapes[shape] for shape in weights} == Counter(weights)


def test_within_a_context_of_the_callers_the_answers_are_those_of_the_weights_as_they_are():
    classifier = make_classifier()
    classifier.plan = choose_plan("cpu", number_format="bfloat16")
    inputs = torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        first = classifier.logits(inputs)
        with torch.no_grad():
            classifier.model.head.weight.mul_(2)
        assert not torch.equal(classifier.logits(inputs), first)
    assert not torch.equal(classifier.logits(inputs), first)


LARGE = ("alexnet", "alexnet_2012", "zfnet", "vgg13", "vgg16", "vgg19", "resnet34", "resnet101", "resnet152", "plain34")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in list_models()
        if name.removesuffix("_bn").removesuffix("_2015") not in LARGE and "110" not in name
    ],
)
def test_a_pictures_logits_do_not_depend_on_its_neighbours(name):
    model = create_model(name, num_classes=2, seed=0)
    classifier = Classifier(model, ("a", "b"), Prepare(channels=model.in_channels))
    side = model.default_input if model.fixed_input or name == "cnn_recitation" else max(32, model.smallest_input)
    inputs = torch.randn(2 * ROWS + 3, model.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    whole = classifier.logits(inputs)
    for index in (0, 1, ROWS, 2 * ROWS + 2):
        assert torch.equal(classifier.logits(inputs[index : index + 1])[0], whole[index])


@pytest.mark.parametrize(
    ("size", "rows"),
    [({"crop": 28}, 64), ({"resize": (32, 64)}, 64), ({"resize": 40, "crop": (45, 46)}, 32), ({"crop": 64}, 32),
     ({"crop": 65}, 16), ({"crop": 224}, 16), ({"resize": 20}, 16), ({}, 16)],
)  # fmt: skip
def test_the_smaller_pictures_are_the_more_are_computed_together(size, rows):
    classifier = make_classifier("cnn_cifar", **size)
    assert classifier.rows == rows
    seen = []
    classifier.model.register_forward_pre_hook(lambda model, given: seen.append(len(given[0])))
    classifier.logits(torch.rand(rows + 1, 3, 32, 32))
    assert seen == [rows, rows]


@pytest.mark.parametrize("number_format", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "side"), [("resnet20_cifar", 32), ("vgg11", 32), ("alexnet", 64)])
def test_a_small_pictures_logits_do_not_depend_on_its_neighbours(name, side, number_format):
    model = create_model(name, num_classes=2, seed=0)
    classifier = Classifier(model, ("a", "b"), Prepare(crop=side), plan=choose_plan("cpu", number_format))
    rows = classifier.rows
    assert rows > ROWS
    inputs = torch.randn(2 * rows + 3, 3, side, side, generator=torch.Generator().manual_seed(0))
    whole = classifier.logits(inputs)
    for index in (0, 1, rows // 2 - 1, rows // 2, rows - 1, rows, 2 * rows - 1, 2 * rows + 2):
        assert torch.equal(classifier.logits(inputs[index : index + 1])[0], whole[index])


def test_one_output_stands_for_two_classes(picture, float32):
    model = create_model("cnn_cifar", num_classes=1, seed=0)
    classifier = Classifier(model, ("ant", "bee"), Prepare(resize=(32, 32)))
    raw = model(classifier.prepare(picture)).detach()
    shares = classifier(picture).probabilities
    assert shares[1] == pytest.approx(float(torch.sigmoid(raw)), abs=1e-6)


def test_wrong_arrays_and_sizes_are_said(picture):
    classifier = make_classifier("lenet5", channels=1)
    with pytest.raises(DataError, match="array of float64"):
        classifier(picture / 255)
    with pytest.raises(InputSizeError, match="exactly 32×32"):
        classifier(picture)
    with pytest.raises(PictureError, match="No such file"):
        classifier("nowhere.png")


def test_with_several_labels_each_output_is_answered_for_itself(picture, tmp_path):
    several = make_classifier(resize=(32, 32))
    several.facts = {"multi_label": True}
    several.save(tmp_path / "c.safetensors")
    loaded = Classifier.load(tmp_path / "c.safetensors")
    assert loaded.multi_label and not make_classifier().multi_label
    prediction = loaded(picture)
    logits = several.logits(several.prepare(picture))[0].double()
    assert prediction.probabilities == pytest.approx((1 / (1 + (-logits).exp())).tolist())
    assert prediction.top(3) == sorted(prediction.top(3), key=lambda pair: -pair[1])


def test_classes_above_a_threshold():
    prediction = Prediction("p", ("a", "b", "c", "d"), (0.5, 0.2, 0.9, 0.49))
    assert prediction.above() == [("c", 0.9), ("a", 0.5)]
    assert prediction.above(0.2) == [("c", 0.9), ("a", 0.5), ("d", 0.49), ("b", 0.2)]
    assert prediction.above(0.95) == []


def test_a_single_output_is_not_for_several_labels(refuses):
    with refuses(DataError, "1 outputs for 2 classes"):
        Classifier(create_model("cnn_cifar", num_classes=1), ("a", "b"), Prepare(), {"multi_label": True})


def test_outputs_must_fit_the_classes():
    with pytest.raises(DataError, match="10 outputs for 3 classes"):
        Classifier(create_model("lenet5"), CLASSES, Prepare(channels=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "resnet9000"}, "no network"),
        ({"options": {"num_classes": 4}}, "is torch.float32 .*, where the network has"),
        ({"classes": ["a", "b"]}, "outputs for 2 classes|parts do not fit"),
        ({"prepare": {"sharpen": True}}, "sharpen|validation error"),
        ({"classes": "abc"}, "its class names are no list of names"),
        ({"classes": None}, "its header lacks 'classes'"),
        ({"format_version": 99}, "format version 99"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path, change, says):
    classifier = make_classifier()
    header = {
        "format_version": 1,
        "model": "cnn_cifar",
        "options": classifier.model.model_options,
        "classes": list(CLASSES),
        "prepare": {},
    } | change
    header = {key: value for key, value in header.items() if value is not None}
    tensors = {f"model.{name}": value for name, value in classifier.model.state_dict().items()}
    write_safetensors(tmp_path / "c.safetensors", tensors, "eyebright.classifier", header)
    with pytest.raises(StoredFileError, match=says):
        Classifier.load(tmp_path / "c.safetensors")
