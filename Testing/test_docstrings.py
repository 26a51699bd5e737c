"""Every public function names its parameters: an `Args:` section with each of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("MedFMLib", "MedFM")

PENDING: set[str] = set()
"""Packages and modules that have functions without an `Args:` section; remove one when it is rewritten."""

INTERFACE = re.compile(r"(See|Implement) `[\w.]+`")
"""First words of the docstring of a method that implements a documented interface."""


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    variable = [a for a in (arguments.vararg, arguments.kwarg) if a]
    return [a.arg for a in [*named, *variable] if a.arg not in ("self", "cls")]


def _registered_commands() -> set[str]:
    """Functions that cli/app.py registers as commands, as "module.function"."""
    tree = ast.parse((ROOT / "MedFMLib" / "cli" / "app.py").read_text(encoding="utf-8"))
    loops = [node.iter for node in tree.body if isinstance(node, ast.For)]
    calls = [node.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    arguments = [argument for call in calls if isinstance(call.func, ast.Call) for argument in call.args]
    found = [node for part in (*loops, *arguments) for node in ast.walk(part) if isinstance(node, ast.Attribute)]
    return {f"{node.value.id}.{node.attr}" for node in found if isinstance(node.value, ast.Name)}


COMMANDS = _registered_commands()


def _is_command(function: ast.FunctionDef | ast.AsyncFunctionDef, module: str) -> bool:
    """A Typer command or callback; its docstring is its help text."""
    return f"{module}.{function.name}" in COMMANDS or any(
        isinstance(d, ast.Call) and isinstance(d.func, ast.Attribute) and d.func.attr in ("command", "callback")
        for d in function.decorator_list
    )


def _public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body)
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _public_functions([*node.body, *node.orelse])


def _undocumented(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Parameters that the `Args:` section lacks."""
    docstring = ast.get_docstring(function) or ""
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n?|\n)*)", docstring, re.MULTILINE)
    listed = re.findall(r"^ {4}\*{0,2}(\w+)(?: \([^)]*\))?:", section[1], re.MULTILINE) if section else []
    return [name for name in _parameters(function) if name not in listed]


def _examine(source: str, command_module: str = "") -> tuple[int, list[tuple[int, str, list[str]]]]:
    """(number of functions that need an `Args:` section, [(line, name, parameters that it lacks)])."""
    count, found = 0, []
    for function in _public_functions(ast.parse(source).body):
        if len(_parameters(function)) < 2 or (command_module and _is_command(function, command_module)):
            continue
        if INTERFACE.match(ast.get_docstring(function) or "") or _parameters(function)[:2] == ["caller", "event"]:
            continue  # an interface documents it: the library's own, or that of VTK's observers
        count += 1
        if missing := _undocumented(function):
            found.append((function.lineno, function.name, missing))
    return count, found


def _is_pending(path: str) -> bool:
    return any(path == pending or path.startswith(f"{pending}/") for pending in PENDING)


def test_public_functions_document_their_parameters():
    total, problems = 0, []
    for file in sorted(file for folder in SOURCES for file in (ROOT / folder).rglob("*.py")):
        path = file.relative_to(ROOT).as_posix()
        if _is_pending(path):
            continue
        module = file.stem if path.startswith("MedFMLib/cli/") else ""
        count, found = _examine(file.read_text(encoding="utf-8"), module)
        total += count
        problems += [f"{path}:{line} {name} lacks {', '.join(missing)}" for line, name, missing in found]
    assert total > 0, "No public function with two parameters was found; check SOURCES."
    assert not problems, "\n".join(problems)


def test_pending_paths_exist():
    assert not [path for path in PENDING if not (ROOT / path).exists()]


def test_a_function_without_args_is_found():
    planted = 'def place(image, label):\n    """Place a label."""\n'
    assert _examine(planted) == (1, [(1, "place", ["image", "label"])])


def test_an_args_section_that_lacks_one_parameter_is_found():
    docstring = '"""Place.\n\n        Args:\n            image: one.\n        """'
    planted = f"class Scene:\n    def place(self, image, *, label):\n        {docstring}\n"
    assert _examine(planted) == (1, [(2, "place", ["label"])])


def test_a_complete_args_section_and_an_interface_method_pass():
    complete = (
        'def place(image, label=""):\n    """Place.\n\n    Args:\n        image: one.\n        label: two.\n    """\n'
    )
    assert _examine(complete) == (1, [])
    assert _examine('def stage(text, share):\n    """Implement `Progress.stage`."""\n') == (0, [])


def test_a_typer_command_is_exempt_in_the_cli_only():
    command = '@app.command("ask")\ndef ask(image, label):\n    """Ask a question."""\n'
    assert _examine(command, "asking") == (0, [])
    assert _examine(command)[1]
    registered = command.removeprefix('@app.command("ask")\n')
    assert _examine(registered, "asking") == (0, []) and _examine(registered, "running")[1]
