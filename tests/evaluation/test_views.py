import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eyebright.classifier import Classifier
from eyebright.data.images import ImageFiles, Images
from eyebright.data.prepare import Prepare
from eyebright.errors import DataError, InputSizeError
from eyebright.evaluation.evaluate import evaluate
from eyebright.evaluation.views import VIEWS, Views, cut, find_views, view_probabilities
from eyebright.models.create import create_model

CLASSES = ("a", "b", "c")
pytestmark = pytest.mark.usefixtures("float32")


def classifier(name="resnet20_cifar", resize=40, crop=32, **options):
    model = create_model(name, num_classes=3, seed=0, **options)
    return Classifier(model, CLASSES, Prepare(resize=resize, crop=crop, mean=(0.4,), std=(0.3,)))


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return Images(random.integers(0, 256, (19, 48, 60, 3), dtype=np.uint8), np.arange(19) % 3, CLASSES)


def by_hand(classifier, images, shown):
    """The mean of softmax over the crops that `shown` makes of one prepared picture `[C, H, W]`, one at a time."""
    prepare = classifier.prepare.model_copy(update={"crop": None})
    rows = []
    for picture in images.pixels:
        answers = []
        for crop in shown(prepare(picture)[0]):
            with torch.no_grad():
                answers.append(classifier.model(crop[None])[0].double().softmax(0))
        rows.append(torch.stack(answers).mean(0).numpy())
    return np.stack(rows)


def five(picture):  # 40×50 pixels
    yield picture[:, :32, :32]
    yield picture[:, :32, 18:]
    yield picture[:, 8:, :32]
    yield picture[:, 8:, 18:]
    yield picture[:, 4:36, 9:41]


def ten(picture):
    yield from five(picture)
    yield from five(picture.flip(2))


def alexnet(picture):
    square = picture[:, :, 5:45]
    for crop in (square[:, :32, :32], square[:, :32, 8:], square[:, 8:, :32], square[:, 8:, 8:], square[:, 4:36, 4:36]):
        yield crop
        yield crop.flip(2)


def shifted(picture):
    cropped = picture[:, 4:36, 9:41]
    padded = torch.from_numpy(np.pad(cropped.numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect"))
    for crop in (cropped, padded[:, :32, :32], padded[:, 2:, 2:]):
        yield crop
        yield crop.flip(2)


@pytest.mark.parametrize(
    ("name", "shown"), [("5-crops", five), ("10-crops", ten), ("alexnet", alexnet), ("shifted", shifted)]
)
def test_crops_agree_with_a_loop(images, name, shown):
    asked = classifier()
    found = view_probabilities(asked, images, VIEWS[name])
    np.testing.assert_allclose(found, by_hand(asked, images, shown), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1)


def test_crops_at_several_scales_are_averaged(images):
    asked = classifier()
    found = view_probabilities(asked, images, find_views("10-crops", (40, 56)))
    each = [view_probabilities(asked, images, find_views("10-crops", (scale,))) for scale in (40, 56)]
    np.testing.assert_allclose(found, (each[0] + each[1]) / 2)
    assert not np.array_equal(each[0], each[1])
    np.testing.assert_array_equal(each[0], view_probabilities(asked, images, VIEWS["10-crops"]))


def test_the_centre_is_what_an_evaluation_without_views_shows(images):
    asked = classifier()
    evaluation = evaluate(asked, images)
    np.testing.assert_allclose(view_probabilities(asked, images, VIEWS["centre"]), evaluation.probabilities, atol=1e-6)


def slide(model, x, window, stride):
    """A network on every window of a picture, one at a time: `[1, C, H, W]` → logits `[K, h, w]`."""
    rows = [
        [
            model(x[:, :, top : top + window, left : left + window])[0]
            for left in range(0, x.shape[3] - window + 1, stride)
        ]
        for top in range(0, x.shape[2] - window + 1, stride)
    ]
    return torch.stack([torch.stack(row) for row in rows]).permute(2, 0, 1)


def test_a_network_without_padding_gives_what_it_gives_on_each_window():
    """LeNet's convolutions see no border, so its score map is the network slid over the picture, bit for bit or so."""
    for name in ("lenet5", "lenet5_1998"):
        model = create_model(name, num_classes=3, seed=0).eval().double()
        x = torch.randn(1, 1, 44, 40, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(model.score_map(x)[0], slide(model, x, 32, 4))


def test_dense_layers_of_vgg_slide_over_the_last_map():
    """Five pools: a step of 32 pixels. Written out from the paper with nothing but the state dict."""
    asked = classifier("vgg11", resize=256, crop=224)
    x = torch.randn(1, 3, 256, 288)
    with torch.no_grad():
        features = x
        for layer in asked.model.features:
            features = layer(features)
        places = []
        for top, left in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)):
            window = features[:, :, top : top + 7, left : left + 7]
            places.append(asked.model.classifier(window.flatten(1))[0])
        expected = torch.stack(places, 1).view(3, 2, 3)
        found = asked.model.score_map(x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    torch.testing.assert_close(
        asked.dense_logits(x)[0], expected.mean((1, 2)), rtol=1e-4, atol=1e-4 * expected.abs().max().item()
    )


@pytest.mark.parametrize(
    "name", ["alexnet", "alexnet_2012", "zfnet", "googlenet", "inception_v2", "resnet18", "resnet50", "cnn_cifar"]
)
def test_at_the_size_it_was_built_for_the_map_has_the_forward_logits(name):
    model = create_model(name, num_classes=3, seed=0).eval()
    size = {"alexnet": 223, "cnn_cifar": 32}.get(name, model.default_input)
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        found, expected = model.score_map(x), model(x)
    if name in ("alexnet", "alexnet_2012", "zfnet"):
        assert found.shape[2:] == (1, 1)
    torch.testing.assert_close(found.mean((2, 3)), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_every_network_has_a_score_map():
    from eyebright.models.catalog import list_models

    for name in list_models():
        with torch.device("meta"):
            model = create_model(name).eval()
            height, width = model.default_input + 40, model.default_input + 70
            scores = model.score_map(torch.empty(2, model.in_channels, height, width))
        assert scores.shape[:2] == (2, model.num_classes)
        assert math.prod(scores.shape[2:]) > 1, name


def test_vgg_protocol_averages_a_picture_and_its_mirror_image(images):
    asked = classifier()
    found = view_probabilities(asked, images, VIEWS["vgg"])
    prepare = asked.prepare.model_copy(update={"crop": None})
    for picture, answer in zip(images.pixels, found, strict=True):
        x = prepare(picture)
        with torch.no_grad():
            both = [asked.model(side)[0].double().softmax(0) for side in (x, x.flip(3))]
        np.testing.assert_allclose(answer, ((both[0] + both[1]) / 2).numpy(), atol=1e-6)
    assert not np.array_equal(found, view_probabilities(asked, images, VIEWS["dense"]))


def test_pictures_on_disk_of_many_sizes(tmp_path, images):
    from PIL import Image

    paths = []
    for index, (height, width) in enumerate(((48, 60), (60, 48), (90, 41))):
        path = tmp_path / f"{index}.png"
        Image.fromarray(images.pixels[index][:height, :width]).resize((width, height)).save(path)
        paths.append(path)
    files = ImageFiles(tuple(paths), np.arange(3), CLASSES)
    asked = classifier()
    for name in VIEWS:
        found = view_probabilities(asked, files, VIEWS[name])
        alone = [view_probabilities(asked, files.select([i]), VIEWS[name])[0] for i in range(3)]
        np.testing.assert_array_equal(found, np.stack(alone), err_msg=name)


def test_an_evaluation_of_views(images):
    asked, seen = classifier(), []
    evaluation = evaluate(asked, images, views="10-crops", on_batch=seen.append)
    np.testing.assert_allclose(
        evaluation.probabilities, view_probabilities(asked, images, VIEWS["10-crops"]), atol=1e-6
    )
    assert seen == [19]
    seen.clear()
    evaluate(asked, images.select(np.arange(40) % 19), views="10-crops", on_batch=seen.append)
    assert seen == [32, 40]  # the fewest of which the crops fill batches of 64 without a rest
    two_scales = []
    evaluate(asked, images, views=Views("corners", scales=(32, 40)), on_batch=two_scales.append)
    assert two_scales[-1] == 19


def test_a_single_output(images):
    model = create_model("resnet20_cifar", num_classes=1, seed=0)
    asked = Classifier(model, ("a", "b"), Prepare(resize=40, crop=32))
    assert view_probabilities(asked, images, VIEWS["vgg"]).shape == (19, 2)


def test_order_of_crops():
    x = torch.arange(20.0).view(1, 1, 4, 5)
    crops = cut(x, (2, 3), Views("corners"))
    assert [crop[0, 0, 0].item() for crop in crops] == [0, 2, 10, 12, 6]
    assert torch.equal(cut(x, (2, 3), Views()), crops[4:])
    assert torch.equal(cut(x, (2, 3), Views("corners", mirrored=True))[5:], crops.flip(3))


def test_what_cannot_be_shown_is_refused(images, refuses):
    with refuses(DataError, "views 'ten'"):
        find_views("ten")
    with refuses(DataError, "views 'dense' at scales 0"):
        find_views("dense", (0,))
    with refuses(DataError, "crops of 32×32 from pictures of 20 pixels"):
        view_probabilities(classifier(), images, find_views("10-crops", (20,)))
    with refuses(DataError, "views 'dense' at scales 100000"):
        find_views("dense", (100_000,))
    with refuses(DataError, "crops of 64×64 from pictures of 48×60 pixels"):
        view_probabilities(classifier(resize=None, crop=64), images, VIEWS["5-crops"])
    with refuses(DataError, "crops of no size from pictures of any size"):
        view_probabilities(classifier(resize=None, crop=None), images, VIEWS["5-crops"])
    with refuses(DataError, "crops of no size from pictures of any size"):
        view_probabilities(classifier(resize=None, crop=None), images, VIEWS["shifted"])
    with refuses(InputSizeError, "alexnet was to be applied densely to pictures of 80×100 pixels"):
        view_probabilities(classifier("alexnet", resize=80), images, VIEWS["dense"])
    with refuses(InputSizeError, "alexnet was to be applied densely to pictures of 40×50 pixels"):
        view_probabilities(classifier("alexnet"), images, VIEWS["dense"])
    with refuses(InputSizeError, "lenet5 was to be applied densely to pictures of 20×32 pixels"):
        create_model("lenet5").score_map(torch.zeros(1, 1, 20, 32))


def test_a_softmax_of_the_written_logits_is_the_mean_of_the_views(images):
    """The logits of an evaluation of several views are logarithms: a loss made from them is that of the mean."""
    asked = classifier()
    evaluation = evaluate(asked, images, views=VIEWS["10-crops"])
    shares = torch.from_numpy(view_probabilities(asked, images, VIEWS["10-crops"]))
    assert evaluation.loss == pytest.approx(F.nll_loss(shares.log(), torch.from_numpy(images.labels)).item(), abs=1e-6)
