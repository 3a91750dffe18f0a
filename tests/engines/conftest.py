"""A small classifier and pictures for it."""

import numpy as np
import pytest

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.models.create import create_model

CLASSES = ("a", "b", "c")


@pytest.fixture
def classifier():
    model = create_model("resnet20_cifar", num_classes=3, seed=0)
    return Classifier(model, CLASSES, Prepare(mean=(0.5,), std=(0.25,)), plan=choose_plan("cpu", "float32"))


@pytest.fixture
def pictures(noise):
    return Images(noise(100, 32, 32, 3), np.zeros(100, dtype=np.int64), CLASSES)


@pytest.fixture
def inputs(classifier, pictures):
    """50 prepared pictures: three whole batches and a bit."""
    from eyebright.engines.build import prepare_some

    return prepare_some(classifier, pictures, 50)
