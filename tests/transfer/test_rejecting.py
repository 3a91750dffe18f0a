"""Temperature and rejection: beside formulas and scikit-learn, on features whose strangers are known."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

import eyebright as eb
from eyebright.classifier import NONE, Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.errors import DataError, StoredFileError
from eyebright.layers.rejection import SCORES, RejectionOptions
from eyebright.tensors import read_safetensors, write_safetensors
from eyebright.transfer import rejecting
from eyebright.transfer.rejecting import Seen, calibrate, choose_score, find_threshold, make_rejection


def make_seen(count=300, classes=5, features=16, seed=0, apart=4.0, strange=False):
    """Clusters around class centres, logits of their distances; strangers lie elsewhere."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, features)) * apart / features**0.5
    stretch = np.linspace(0.3, 2, features)
    random = np.random.default_rng(seed + 1)
    labels = np.arange(count) % classes
    elsewhere = random.normal(size=(count, features)) * apart / features**0.5
    places = elsewhere if strange else centres[labels]
    values = places + random.normal(size=(count, features)) * stretch * 0.5
    logits = -np.square(values[:, None] - centres).sum(axis=2) / 2
    return Seen(values.astype(np.float32), logits.astype(np.float32), labels)


def score(kind, learned, judged):
    rejection = make_rejection(kind, learned, 0.0, 0.05)
    return rejection(torch.from_numpy(judged.logits), torch.from_numpy(judged.embeddings)).numpy()


def test_scores_are_what_their_papers_say():
    learned, judged = make_seen(), make_seen(80, seed=1)
    np.testing.assert_allclose(
        score("max_softmax", learned, judged), 1 - softmax(judged.logits, axis=1).max(axis=1), atol=1e-6
    )
    np.testing.assert_allclose(score("energy", learned, judged), -logsumexp(judged.logits, axis=1), rtol=1e-5)

    unit = learned.embeddings / np.linalg.norm(learned.embeddings, axis=1, keepdims=True)
    asked = judged.embeddings / np.linalg.norm(judged.embeddings, axis=1, keepdims=True)
    far, _ = NearestNeighbors(n_neighbors=1).fit(unit).kneighbors(asked)
    np.testing.assert_allclose(score("neighbours", learned, judged), far[:, -1], atol=1e-3)


@pytest.mark.parametrize("count", [300, 40])  # more pictures than features, and fewer
def test_mahalanobis_is_by_the_shrunk_covariance_within_classes(count):
    learned, judged = make_seen(count, features=64), make_seen(80, features=64, seed=1)
    means = np.stack([learned.embeddings[learned.labels == label].mean(axis=0) for label in range(5)])
    precision = LedoitWolf(assume_centered=True).fit(learned.embeddings - means[learned.labels]).precision_
    apart = judged.embeddings[:, None] - means
    expected = np.einsum("nkd,de,nke->nk", apart, precision, apart).min(axis=1)
    np.testing.assert_allclose(score("mahalanobis", learned, judged), expected, rtol=2e-3)


@pytest.mark.parametrize("kind", SCORES)
def test_strangers_score_higher(kind):
    learned, known, strangers = make_seen(), make_seen(200, seed=1), make_seen(200, seed=2, strange=True)
    scores = np.concatenate([score(kind, learned, known), score(kind, learned, strangers)])
    least = {"max_softmax": 0.6, "energy": 0.75}.get(kind, 0.85)
    assert roc_auc_score(np.arange(400) >= 200, scores) > least


def test_the_temperature_is_found_again():
    """Labels are drawn by the probabilities of logits; what was multiplied has to be divided."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 4)) * 2
    shares = softmax(logits, axis=1)
    labels = np.array([random.choice(4, p=share) for share in shares])
    assert rejecting.fit_temperature((3 * logits).astype(np.float32), labels) == pytest.approx(3, rel=0.1)
    table = (random.random((4000, 4)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    assert rejecting.fit_temperature((0.5 * logits).astype(np.float32), table) == pytest.approx(0.5, rel=0.1)


def test_a_threshold_rejects_its_share():
    scores = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for rate in (0.05, 0.2):
        assert (scores > find_threshold(scores, rate)).mean() == pytest.approx(rate, abs=0.001)


def test_the_score_is_chosen_by_classes_that_are_left_out():
    learned, judged = make_seen(), make_seen(200, seed=1)
    noisy = Seen(judged.embeddings, np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32), judged.labels)
    chosen, auroc = choose_score([rejecting.measure_strangeness(learned, noisy)])
    assert chosen in ("mahalanobis", "neighbours")
    assert auroc["max_softmax"] == pytest.approx(0.5, abs=0.15)
    assert auroc[chosen] > 0.9
    two = Seen(judged.embeddings, judged.logits[:, :2], judged.labels % 2)
    assert choose_score([rejecting.measure_strangeness(two, two)]) == ("neighbours", {})


def test_a_covariance_of_very_many_features_is_not_made(monkeypatch):
    monkeypatch.setattr(rejecting, "WIDEST", 10)
    found = rejecting.measure_strangeness(make_seen(), make_seen(200, seed=1))
    assert set(found.scores) == set(found.auroc) == {"max_softmax", "energy", "neighbours"}
    assert choose_score([found])[0] in found.scores


# in a classifier

CLASSES = ("a", "b", "c", "d", "e")


@pytest.fixture
def classifier():
    """A network whose features are 64 numbers."""
    plan = choose_plan("cpu", "float32", training=False)
    model = eb.create_model("resnet20_cifar", num_classes=5, seed=0)
    return Classifier(model, CLASSES, Prepare(mean=(0.4,), std=(0.2,)), {}, plan)


@pytest.fixture
def pictures():
    """Classes are colours; strangers are chequered."""
    random = np.random.default_rng(0)

    def make(count):
        labels = np.arange(count) % 5
        colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30], [30, 200, 200]])
        return (colours[labels][:, None, None] + random.integers(-25, 25, (count, 32, 32, 3))).astype(np.uint8), labels

    chequered = (np.indices((32, 32)).sum(axis=0) // 4 % 2 * 255)[..., None].repeat(3, axis=2).astype(np.uint8)
    return make(100), make(50), [chequered]


@pytest.fixture
def doubting(classifier, pictures):
    """Has a temperature and rejects; as fitted on the network's own features."""

    def look(pixels, labels):
        inputs = torch.cat([classifier.prepare(one) for one in pixels])
        return Seen(classifier.embeddings(inputs).numpy(), classifier.raw_logits(inputs).numpy(), labels)

    (train, train_labels), (val, val_labels), _ = pictures
    learned = look(train, train_labels)
    found = calibrate(classifier, learned, [(learned, look(val, val_labels))], 0.1)
    return classifier, found


def test_a_classifier_says_none_of_these(doubting, pictures):
    classifier, found = doubting
    _, (val, _), strangers = pictures
    known = classifier.predict(list(val))
    assert sum(not one.known for one in known) == 5  # a tenth
    (stranger,) = classifier.predict(strangers)
    assert not stranger.known
    assert stranger.best == NONE
    assert str(stranger).startswith("picture 0: none of these; if one of them, ")
    assert stranger.top(1)[0][0] in CLASSES
    assert sum(stranger.probabilities) == pytest.approx(1)
    assert found.rejected == pytest.approx(0.1)
    assert found.threshold == classifier.rejection.options.threshold


def test_the_temperature_divides_the_logits(doubting, pictures):
    classifier, found = doubting
    inputs = torch.cat([classifier.prepare(one) for one in pictures[1][0][:7]])
    assert classifier.temperature == found.temperature != 1
    torch.testing.assert_close(classifier.logits(inputs), classifier.raw_logits(inputs) / found.temperature)
    torch.testing.assert_close(classifier.judge(inputs)[0], classifier.logits(inputs))


@pytest.mark.parametrize("kind", SCORES)
def test_saved_and_loaded_it_doubts_as_before(kind, doubting, pictures, tmp_path):
    classifier, _ = doubting
    inputs = torch.cat([classifier.prepare(one) for one in [*pictures[1][0], *pictures[2]]])
    learned = Seen(
        classifier.embeddings(inputs).numpy(), classifier.raw_logits(inputs).numpy(), np.arange(len(inputs)) % 5
    )
    scores = make_rejection(kind, learned, 0.0, 0.1)(
        classifier.raw_logits(inputs), torch.from_numpy(learned.embeddings)
    ).numpy()
    classifier.rejection = make_rejection(kind, learned, find_threshold(scores, 0.3), 0.3)
    path = tmp_path / "c.safetensors"
    classifier.save(path)
    loaded = Classifier.load(path, device="cpu")
    loaded.plan = classifier.plan
    assert loaded.rejection.options == classifier.rejection.options
    logits, known = loaded.judge(inputs)
    torch.testing.assert_close(logits, classifier.judge(inputs)[0])
    assert torch.equal(known, classifier.judge(inputs)[1])
    assert 0 < int((~known).sum()) < len(inputs)
    header = read_safetensors(path, "eyebright.classifier", 2)[1]
    assert header["temperature"] == classifier.temperature


def test_without_doubts_the_file_is_as_ever(classifier, tmp_path):
    path = tmp_path / "c.safetensors"
    classifier.save(path)
    _, header = read_safetensors(path, "eyebright.classifier", 1)  # which older ones read, too
    assert header.keys().isdisjoint(("temperature", "rejection", "memory"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors, header: header["rejection"].update(rate=2), "rate"),
        (lambda tensors, header: header["rejection"].update(score="gut feeling"), "score"),
        (lambda tensors, header: tensors.pop("rejection.references"), "references"),
        (lambda tensors, header: header["rejection"].update(references=3), "size mismatch"),
        (lambda tensors, header: tensors.update(secret=torch.zeros(1)), "unknown weights: secret"),
        (lambda tensors, header: header.update(temperature="warm"), "warm"),
    ],
)
def test_a_file_whose_doubts_do_not_fit_is_refused(change, says, doubting, tmp_path):
    classifier, _ = doubting
    path = tmp_path / "c.safetensors"
    classifier.save(path)
    tensors, header = read_safetensors(path, "eyebright.classifier", 2)
    change(tensors, header)
    write_safetensors(path, tensors, "eyebright.classifier", {"format_version": 2, **header})
    with pytest.raises(StoredFileError, match=says):
        Classifier.load(path)


def test_several_labels_get_a_temperature_alone(classifier, pictures):
    (train, labels), _, _ = pictures
    inputs = torch.cat([classifier.prepare(one) for one in train])
    table = np.eye(5, dtype=np.int64)[labels]
    seen = Seen(classifier.embeddings(inputs).numpy(), classifier.raw_logits(inputs).numpy(), table)
    found = calibrate(classifier, seen, [(seen, seen)], 0.05)
    assert found.score is None
    assert classifier.rejection is None
    assert len(found.thresholds) == 5
    assert found.sentences()[0].startswith("yes from a probability of ")


def test_options_are_checked():
    with pytest.raises(ValueError, match="threshold"):
        RejectionOptions(score="energy", threshold=float("nan"), rate=0.05, features=3, references=0)


# thresholds


def test_a_threshold_moves_only_where_that_is_more_than_chance():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    shares = np.clip(labels * 0.2 + 0.15 + random.normal(size=400) * 0.05, 0, 1)  # right from about a quarter on
    found = rejecting.find_thresholds(np.stack([1 - shares, shares], axis=1), labels)
    assert found[0] == pytest.approx(0.25, abs=0.05)
    fair = np.clip(labels * 0.4 + 0.3 + random.normal(size=400) * 0.2, 0, 1)
    assert rejecting.find_thresholds(np.stack([1 - fair, fair], axis=1), labels) is None
    assert rejecting.find_thresholds(np.full((6, 3), 1 / 3), np.arange(6) % 3) is None


def test_each_label_has_the_threshold_with_the_best_f1():
    random = np.random.default_rng(0)
    labels = (random.random((300, 2)) < (0.1, 0.5)).astype(np.int64)
    shares = np.clip(labels * 0.3 + random.random((300, 2)) * 0.5, 0, 1)
    found = rejecting.find_thresholds(shares, labels)
    for column in range(2):
        best = max(f1_score(labels[:, column], shares[:, column] >= at) for at in np.linspace(0.01, 0.99, 99))
        assert f1_score(labels[:, column], shares[:, column] >= found[column]) >= best - 0.005


def test_thresholds_decide_and_travel(classifier, pictures, tmp_path):
    two = join_two(classifier)
    two.thresholds = (0.9,)
    two.save(tmp_path / "two.safetensors")
    loaded = Classifier.load(tmp_path / "two.safetensors", device="cpu")
    loaded.plan = classifier.plan
    assert loaded.thresholds == (0.9,)
    pixels = list(pictures[0][0][:40])
    answers = loaded.predict(pixels)
    assert [one.best == "b" for one in answers] == [one.probabilities[1] >= 0.9 for one in answers]
    plain = eb.evaluate(join_two(classifier), images_of(pixels))
    moved = eb.evaluate(loaded, images_of(pixels))
    assert (moved.predictions == (moved.probabilities[:, 1] >= 0.9)).all()
    assert moved.predictions.sum() < plain.predictions.sum()
    np.testing.assert_array_equal(moved.logits, plain.logits)


def test_several_thresholds_decide(classifier, pictures):
    classifier.facts["multi_label"] = True
    classifier.thresholds = (0.0, 1.1, 0.5, 0.5, 0.5)
    (answer,) = classifier.predict([pictures[0][0][0]])
    names = {name for name, _ in answer.above()}
    assert "a" in names
    assert "b" not in names
    assert {name for name, _ in answer.above(0.0)} == set(CLASSES)


def test_thresholds_must_fit_the_classes(classifier, refuses):
    with refuses(DataError, "1 thresholds for 5 classes"):
        dataclasses.replace(classifier, thresholds=(0.5,))


def join_two(classifier):
    """The same network with two of its outputs."""
    model = eb.create_model("resnet20_cifar", num_classes=2, seed=0)
    return Classifier(model, ("a", "b"), classifier.prepare, {}, classifier.plan)


def images_of(pixels):
    return Images(np.stack(pixels), np.arange(len(pixels)) % 2, ("a", "b"))
