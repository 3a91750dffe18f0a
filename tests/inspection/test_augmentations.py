import numpy as np
import pytest

from eyebright.data.images import Images
from eyebright.data.split import Splits
from eyebright.inspection.augmentations import draw_augmentations, show_augmentations
from eyebright.training.fit import Fit
from eyebright.training.recipe import make_recipe


@pytest.fixture
def pictures(noise):
    return Images(noise(40, 36, 36, 3), np.arange(40) % 3, ("ant", "bee", "a class with a rather long name"))


def recipe(**augment):
    return make_recipe(
        {
            "prepare": {"crop": 32, "statistics": "train"},
            "augment": augment,
            "model": {"name": "cnn_cifar"},
            "training": {"epochs": 1, "learning_rate": 0.1, "batch_size": 16},
        }
    )


def test_without_augmentation_every_picture_is_as_evaluation_sees_it(pictures):
    shown = show_augmentations(pictures, recipe())
    plain = pictures.pixels[:, 2:34, 2:34]
    assert len(shown) == 32
    assert all(np.array_equal(picture.pixels, shown[0].pixels) for picture in shown[:16])
    for picture in shown:
        (index,) = [i for i in range(40) if np.array_equal(plain[i], picture.pixels)]
        assert picture.title.startswith(pictures.classes[pictures.labels[index]][:15])
    assert shown[0].title.endswith("as evaluation sees it") and shown[15].title.endswith("epoch 15")


def test_batches_are_those_that_training_gets(pictures):
    settings = recipe(random_crop=True, rand_augment=[2, 9], cutmix=1.0)
    fit = Fit(settings, Splits(pictures, None, pictures), seed=5)
    batch = next(fit.loader.batches(1))
    expected = fit.prepare.unnormalise(batch.inputs[:8]).numpy()
    shown = show_augmentations(pictures, settings, seed=5)[24:]
    assert all(np.array_equal(picture.pixels, other) for picture, other in zip(shown, expected, strict=True))


def test_titles_of_mixed_pictures_name_both_classes_and_their_shares(pictures):
    blended = show_augmentations(pictures, recipe(mixup=1.0))
    mixed = [picture for picture in blended if "%" in picture.title]
    assert len(mixed) > 10
    for picture in mixed:
        lines = picture.title.splitlines()
        shares = [int(line.rpartition(" ")[2].removesuffix("%")) for line in lines]
        assert len(lines) == 2 and 99 <= sum(shares) <= 101
        assert lines[0].rpartition(" ")[0] != lines[1].rpartition(" ")[0]


def test_grey_pictures_and_few_of_them_are_drawn_too(noise):
    few = Images(noise(3, 10, 12, 1), np.array([0, 1, 0]), ("zero", "one"))
    settings = make_recipe(
        {
            "prepare": {"channels": 1},
            "augment": {"rotation": 10, "mixup": 1.0},
            "model": {"name": "lenet5"},
            "training": {"epochs": 1, "learning_rate": 0.1},
        }
    )
    figure = draw_augmentations(few, settings)
    assert len(figure.axes[0].images) == len(figure.axes[0].texts) == 16 + 2 * 3


def test_the_figure_shows_them_all_with_their_titles(pictures):
    settings = recipe(random_crop=True, mixup=0.5)
    shown = show_augmentations(pictures, settings)
    drawn = draw_augmentations(pictures, settings).axes[0]
    assert [text.get_text() for text in drawn.texts] == [picture.title for picture in shown]
    for image, picture in zip(drawn.images, shown, strict=True):
        assert np.array_equal(np.asarray(image.get_array()), picture.pixels)
