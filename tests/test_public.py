"""The public names, exactly."""

import pytest

import eyebright


def test_the_exports_are_these_and_no_others():
    assert eyebright.__all__ == [
        "Augment", "Classifier", "Curation", "Drift", "Evaluation", "EyebrightError", "Fit", "ImageFiles", "Images",
        "Plan", "Prediction", "Prepare", "Recipe", "Report", "Run", "Splits", "choose_plan", "create_model",
        "cross_validate", "curate", "evaluate", "find_drift", "find_duplicates", "list_models", "list_recipes",
        "load_data", "load_pictures", "load_recipe", "resume", "summarise", "train", "use_engine",
    ]  # fmt: skip


@pytest.mark.parametrize("name", eyebright.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(eyebright, name).__doc__
    assert name in dir(eyebright)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        eyebright.trian  # noqa: B018
