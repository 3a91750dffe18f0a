"""Makes errors.md from the sources: every message that a user can meet, by kind of error. `make docs` calls it."""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import eyebright
from eyebright import errors

PACKAGE = Path(eyebright.__file__).parent
KINDS = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EyebrightError)
}
PAGE = Path(__file__).with_name("errors.md")
Place = tuple[str, int, int]


class Maker(NamedTuple):
    """A `return` of a function that makes an error for others to raise."""

    function: ast.FunctionDef
    call: ast.Call
    place: Place


@dataclass(frozen=True)
class Message:
    """One place in the sources where an error is raised.

    Attributes:
        kind: name of its class.
        problem, expected, remedy: its three parts; what differs from case to case stands in ‹›.
        module: path of the file, below the package.
        places: (file, first line, last line) of the statement that raises it, and of that which makes it elsewhere.
    """

    kind: str
    problem: str
    expected: str
    remedy: str
    module: str
    places: tuple[Place, ...]


def read_messages() -> list[Message]:
    """All messages of the package, in the order of its files."""
    files = sorted(PACKAGE.rglob("*.py"))
    trees = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}
    makers = {module: _find_makers(module, tree) for module, tree in trees.items()}
    anywhere = {name: found for of_module in makers.values() for name, found in of_module.items()}
    return [
        message for module, tree in trees.items() for message in _find_messages(module, tree, anywhere | makers[module])
    ]


def _find_makers(module: str, tree: ast.Module) -> dict[str, list[Maker]]:
    """The functions that return errors, by name: one maker for each of their returns."""
    makers: dict[str, list[Maker]] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Call) and _name(node.value) in KINDS:
                    makers.setdefault(function.name, []).append(Maker(function, node.value, _place(module, node)))
    return makers


def _find_messages(module: str, tree: ast.Module, makers: dict[str, list[Maker]]) -> Iterator[Message]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        raised, place = node.exc, _place(module, node)
        if _name(raised) in KINDS:
            yield _message(raised, module, place)
        for maker in makers.get(_name(raised), ()):
            yield _message(_filled(maker, raised), module, place, maker.place)


def _message(call: ast.Call, module: str, *places: Place) -> Message:
    parts = {keyword.arg: _text(keyword.value) for keyword in call.keywords}
    return Message(_name(call), _text(call.args[0]), parts["expected"], parts["remedy"], module, places)


def _place(module: str, node: ast.stmt) -> Place:
    return module, node.lineno, node.end_lineno or node.lineno


def _filled(maker: Maker, call: ast.Call) -> ast.Call:
    """The error that a function makes, with the arguments of one call in the places of its parameters."""
    names = [argument.arg for argument in maker.function.args.args if argument.arg != "self"]
    given = dict(zip(names, call.args, strict=False)) | {key.arg: key.value for key in call.keywords if key.arg}

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return copy.deepcopy(given.get(node.id, node))

    filled: ast.Call = Fill().visit(copy.deepcopy(maker.call))
    return filled


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _text(node: ast.AST) -> str:
    """An expression as a reader of the message would put it."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(map(_text, values))
        case ast.FormattedValue(value=value):
            return _text(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right) if any(map(_is_text, ast.walk(node))):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=ast.Constant(value="")):
            return f"[{_text(body)}]"
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} / {_text(other)}"
        case ast.BoolOp(op=ast.Or(), values=values):
            return " / ".join(dict.fromkeys(map(_text, values)))
        case ast.Call() if _name(node) == "did_you_mean":
            return "did you mean ‹name›?"
        case ast.Call(func=ast.Name(id="str"), args=[value]):
            return _text(value)
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=key), *_]):
            return f"‹{key}›"
        case ast.Call(func=ast.Attribute(attr="join", value=ast.Constant(value=between)), args=[parts]):
            return f"{_text(parts)}{between}…"
    words = [
        child.id if isinstance(child, ast.Name) else child.attr
        for child in ast.walk(node)
        if isinstance(child, ast.Name | ast.Attribute)
    ]
    meaningful = [word for word in words if word not in PLAIN]
    return f"‹{(meaningful or words or ['…'])[0].strip('_').replace('_', ' ')}›"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


PLAIN = {  # words that say how a value is shown, not what it is
    "str", "list", "sorted", "len", "repr", "type", "self", "map", "Path", "join", "min", "max", "int",
    "splitlines", "strerror", "args", "items", "dict", "tuple", "__name__", "first_line", "_first_line", "_first",
    "cwd", "replace", "lower",
}  # fmt: skip


def render() -> str:
    """The page."""
    tree = textwrap.dedent((errors.__doc__ or "").split("::")[1].split("Each says")[0]).strip()
    text = [
        "# Errors",
        "<!-- made by docs/make_errors.py from the sources: change those, then `make docs` -->",
        "Every error says what was given, what was expected and what to do next. On the command line it is printed "
        "and the exit code is 1; in Python it is an exception of one of these classes, with the attributes `problem`, "
        "`expected` and `remedy`. Below stands every message, with ‹names› for what differs from case to case, "
        "[parts] that may be missing, and / between alternatives.",
        f"```text\n{tree}\n```",
    ]
    messages = read_messages()
    for kind in sorted(KINDS, key=tree.index):
        text += [f"## {kind}", inspect.cleandoc(KINDS[kind].__doc__ or "").partition("\n\n")[0]]
        ours = [message for message in messages if message.kind == kind]
        for module in dict.fromkeys(message.module for message in ours):
            text.append(f"In `{module}`:")
            text += dict.fromkeys(_block(message) for message in ours if message.module == module)
    return "\n\n".join(text) + "\n"


def _block(message: Message) -> str:
    lines = (f"error: {message.problem}", f"  expected: {message.expected}", f"  to do: {message.remedy}")
    return "```text\n" + "\n".join(lines) + "\n```"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
