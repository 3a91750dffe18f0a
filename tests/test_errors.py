import ast
import inspect
import pickle
import re

import make_errors
import pytest

from eyebright import errors
from eyebright.errors import EyebrightError, did_you_mean

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, EyebrightError)]


@pytest.fixture(params=TREE, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_an_error_says_what_was_given_what_was_expected_and_what_to_do(kind):
    error = kind("'lenet6' is no network", expected="lenet5", remedy="write lenet5")
    assert (error.problem, error.expected, error.remedy) == ("'lenet6' is no network", "lenet5", "write lenet5")
    assert str(error) == "'lenet6' is no network\n  expected: lenet5\n  to do: write lenet5"


@pytest.mark.parametrize("missing", ["expected", "remedy"])
def test_no_part_can_be_left_out(kind, missing):
    parts = {"expected": "this", "remedy": "that"}
    del parts[missing]
    with pytest.raises(TypeError, match=missing):
        kind("a problem", **parts)


def test_an_error_comes_back_whole_from_another_process(kind):
    error = kind("given", expected="this", remedy="that")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.problem, copy.expected, copy.remedy) == ("given", "this", "that")
    assert str(copy) == str(error)


def test_the_docstring_draws_exactly_the_tree():
    drawn, above = {}, [EyebrightError.__name__]
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ((?:│   |    )*)(?:├──|└──) (\w+)", line):
            depth = len(found[1]) // 4
            del above[depth + 1 :]
            drawn[found[2]] = above[depth]
            above.append(found[2])
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in TREE if kind is not EyebrightError}


def test_the_page_of_errors_is_made_from_the_sources():
    assert make_errors.PAGE.read_text(encoding="utf-8") == make_errors.render(), "run: make docs"


def test_every_kind_of_error_has_a_message_and_every_message_its_parts():
    messages = make_errors.read_messages()
    assert {message.kind for message in messages} == {kind.__name__ for kind in TREE}
    for message in messages:
        for part in (message.problem, message.expected, message.remedy):
            assert part.strip() and "{" not in part and "_" not in re.sub(r"`[^`]*`|\S*_\S*", "", part), message
    assert len(messages) > 80


def test_every_error_that_the_sources_make_is_on_the_page():
    """Each call of a class of ours lies in one of the messages' statements."""
    places = {place for message in make_errors.read_messages() for place in message.places}
    calls = [
        (path.relative_to(make_errors.PACKAGE).as_posix(), node.lineno)
        for path in make_errors.PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in make_errors.KINDS
    ]
    assert len(calls) > 60
    missing = [
        (module, line)
        for module, line in calls
        if not any(module == file and first <= line <= last for file, first, last in places)
    ]
    assert not missing


def test_each_return_of_a_function_that_makes_errors_is_a_message_of_its_own():
    problems = [message.problem for message in make_errors.read_messages()]
    assert "unknown key '‹key›'[ in [‹section›]] of recipe '‹name› / recipe'" in problems
    assert "'‹place›' is missing in recipe '‹name› / recipe'" in problems
    assert "recipe '‹name› / recipe': ‹place› / its sections‹given› will not do" in problems


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("path", "‹path›"),
        ("self.train.classes", "‹classes›"),
        ("f'step {self.step + 1} of {len(steps)}'", "step ‹step› of ‹steps›"),
        ("f'{name} is empty' + (f', but for {other}' if other else '')", "‹name› is empty[, but for ‹other›]"),
        ("' or '.join(names) + ', or auto'", "‹names› or …, or auto"),
        ("str(values.get('name', '')) or 'recipe'", "‹name› / recipe"),
        ("did_you_mean(name, known) or 'see the list'", "did you mean ‹name›? / see the list"),
        ("sizes[0]", "‹sizes›"),
    ],
)
def test_an_expression_is_shown_as_a_reader_would_put_it(expression, shown):
    assert make_errors._text(ast.parse(expression, mode="eval").body) == shown


def test_the_root_is_no_builtin_error():
    assert EyebrightError.__bases__ == (Exception,)


@pytest.mark.parametrize(
    ("given", "known", "answer"),
    [
        ("epoch", ["epochs", "batch_size"], "did you mean 'epochs'?"),
        ("cifar-10", ["digits", "mnist", "cifar10"], "did you mean 'cifar10'?"),
        ("CIFAR10", ["digits", "mnist", "cifar10"], "did you mean 'cifar10'?"),
        ("alexnet", ["LeNet", "AlexNet"], "did you mean 'AlexNet'?"),
        ("lenet", iter(["resnet50", "lenet5"]), "did you mean 'lenet5'?"),
        ("zzz", ["epochs", "batch_size"], ""),
        ("epochs", [], ""),
    ],
)
def test_the_nearest_name_is_named_and_a_far_one_is_not(given, known, answer):
    assert did_you_mean(given, known) == answer
