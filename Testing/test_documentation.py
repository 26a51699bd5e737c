"""The documentation is true: the README's commands and examples run, the pages' commands parse, links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
REPOSITORY = "https://github.com/medfm/SlicerMedFM/blob/main/"
MOST_README_LINES = 90
SHELLS = ("bash", "sh", "console", "")
FENCE = re.compile(r"^(```+|~~~+)[ \t]*(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.M | re.S)
HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", re.M)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
PRIVATE_WORDS = re.compile(
    rf"\b({'|'.join((ROOT / 'Testing' / 'support' / 'private_words.txt').read_text().split(chr(10))[:-1])})\b", re.I
)
USED_WORDS = re.compile(r"^\| write \| not \|.*?(?=^\n)|^>.*?$", re.M | re.S)  # CONTRIBUTING's list, and quoted output


# -- reading pages -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks(text: str, *languages: str) -> list[Block]:
    """Return the fenced blocks of the given languages."""
    return [Block(language, body) for _, language, body in FENCE.findall(text) if language in languages]


def command_lines(text: str) -> list[list[str]]:
    """Return the arguments of every `medfm` command in shell blocks, without `medfm` itself.

    Lines that end in a backslash are joined; comments and assignments of variables before the command are dropped.
    """
    found = []
    for block in blocks(text, *SHELLS):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if re.match(r"\s*(\w+=\S* )*medfm\s", line) else []
            while words and "=" in words[0] and not words[0].startswith("-"):
                words = words[1:]
            if words[:1] == ["medfm"]:
                found.append(words[1:])
    return found


def inline_commands(text: str) -> list[list[str]]:
    """Return the words of every `medfm …` in a code span, without `medfm` itself."""
    spans = re.findall(r"`medfm ([^`\n]+)`", FENCE.sub("", text))
    return [shlex.split(span) for span in spans]


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and MkDocs make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip())


def anchors(text: str) -> set[str]:
    """Return the anchors of a page."""
    return {slug(heading) for heading in HEADING.findall(FENCE.sub("", text))}


def broken_links(page: Path, text: str) -> list[str]:
    """Return the targets of links and pictures that lead to no file or no heading of this repository."""
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        if target.startswith(REPOSITORY):
            path, anchor = ROOT / target.removeprefix(REPOSITORY), ""
        elif re.match(r"[a-z]+:", target):
            continue
        else:
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken


# -- running and parsing commands ----------------------------------------------------------------------------


@functools.cache
def command_tree():
    """Return the command with its subcommands, as Typer builds it."""
    typer = pytest.importorskip("typer")
    from MedFMLib.cli.app import app

    return typer.main.get_command(app)


def found_command(words: list[str]):
    """Return (command, path, remaining words), descending through subcommands.

    Raises:
        AssertionError: there is no such subcommand.
    """
    command, path, rest = command_tree(), ["medfm"], list(words)
    while getattr(command, "commands", None):
        if not rest or rest[0].startswith("-"):
            return command, path, rest
        assert rest[0] in command.commands, f"there is no command '{' '.join([*path, rest[0]])}'"
        path.append(rest[0])
        command = command.commands[rest.pop(0)]
    return command, path, rest


def parse(words: list[str]) -> None:
    """Parse a command line as the command itself does, without running it.

    Raises:
        AssertionError: an unknown command or option, a missing argument, or a value of the wrong kind.
    """
    command, path, rest = found_command(words)
    assert not getattr(command, "commands", None) or rest == ["--help"], f"'{' '.join(path)}' needs a subcommand"
    if rest == ["--help"]:
        return
    try:
        command.make_context(" ".join(path), list(rest))
    except Exception as error:
        raise AssertionError(f"medfm {shlex.join(words)}: {getattr(error, 'message', error)}") from error


def check_span(words: list[str]) -> None:
    """Check a `medfm …` in running text: its command and its options exist; arguments may be left out.

    Raises:
        AssertionError: an unknown command or option.
    """
    command, path, rest = found_command(words)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, f"'{' '.join(path)}' has no option '{word}'"


def run(words: list[str]) -> str:
    """Run a command line of `medfm` in this process and return what it printed.

    Raises:
        AssertionError: it did not end with exit code 0.
    """
    testing = pytest.importorskip("typer.testing")
    from MedFMLib.cli.app import app

    done = testing.CliRunner().invoke(app, words)
    assert done.exit_code == 0, (
        f"medfm {shlex.join(words)} ended with {done.exit_code}: {done.output[-500:]} {done.exception!r}"
    )
    return done.output


def run_readme(text: str) -> int:
    """Run every `medfm` command and then every Python block of a text in the current folder; return how many ran."""
    commands, examples = command_lines(text), blocks(text, "python")
    for words in commands:
        run(words)
    for example in examples:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(example.text, "README.md", "exec"), {"__name__": "readme"})
    return len(commands) + len(examples)


@pytest.fixture
def folder_with_scan(tmp_path, monkeypatch):
    """A folder to work in, with `scan.nii.gz`: the average head that ships, which the embedded model knows."""
    sitk = pytest.importorskip("SimpleITK")
    head = ROOT / "Resources" / "healthy" / "cases" / "average-healthy-brain-t1" / "image.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(head)), str(tmp_path / "scan.nii.gz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pages() -> list:
    """Return README, changelog and every page as parameters with readable names."""
    every = [README, ROOT / "CHANGELOG.md", *PAGES]
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in every]


# -- the README ------------------------------------------------------------------------------------------------


def test_every_command_and_example_of_the_readme_runs(folder_with_scan, one_thread):
    pytest.importorskip("torch")
    text = README.read_text(encoding="utf-8")
    assert len(command_lines(text)) >= 5 and blocks(text, "python"), "the README shows no commands or no Python"
    run_readme(text)
    assert (folder_with_scan / "results" / "scan.seg.nrrd").is_file()
    assert (folder_with_scan / "results" / "scan.report.html").is_file()


@pytest.mark.parametrize(
    "planted",
    ["medfm frobnicate --no-such-option", "medfm ask missing.nii.gz 'What is it?'", "medfm models show nothing"],
)
def test_a_command_in_the_readme_that_does_not_work_is_found(planted, folder_with_scan):
    text = README.read_text(encoding="utf-8").replace(
        "medfm segment scan.nii.gz", f"{planted}\nmedfm segment scan.nii.gz", 1
    )
    assert planted in text
    with pytest.raises(AssertionError, match=re.escape(planted.split()[1])):
        run_readme(text)


def test_an_example_in_the_readme_that_does_not_work_is_found(folder_with_scan):
    with pytest.raises(AttributeError, match="frobnicate"):
        run_readme("```python\nimport MedFMLib as medfm\n\nmedfm.frobnicate('scan.nii.gz')\n```\n")


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


# -- every page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_page_parses(page):
    text = page.read_text(encoding="utf-8")
    for words in command_lines(text):
        parse(words)
    if page.name != "CHANGELOG.md":  # it names commands that were renamed
        for words in inline_commands(text):
            check_span(words)


def test_the_pages_show_commands():
    found = {words[0] for page in PAGES for words in command_lines(page.read_text(encoding="utf-8"))}
    assert found >= {"segment", "ask", "report", "batch", "finetune", "models", "endpoints", "guard", "serve"}


@pytest.mark.parametrize(
    "planted",
    [
        "frobnicate --no-such-option", "segment scan.nii.gz --no-such-option", "segment", "ask scan.nii.gz",
        "models", "models frobnicate", "ask scan.nii.gz 'What?' --max-tokens many",
    ],
)  # fmt: skip
def test_a_command_that_does_not_parse_is_found(planted):
    (words,) = command_lines(f"```bash\nKEY=1 medfm {planted}   # a comment\n```\n")
    with pytest.raises(AssertionError):
        parse(words)


@pytest.mark.parametrize("planted", ["frobnicate", "models frobnicate", "segment IMAGE --no-such-option"])
def test_a_command_in_running_text_that_does_not_exist_is_found(planted):
    (words,) = inline_commands(f"Use `medfm {planted}` for it.")
    with pytest.raises(AssertionError):
        check_span(words)


@pytest.mark.parametrize("page", pages())
def test_every_link_and_picture_of_a_page_exists(page):
    assert not broken_links(page, page.read_text(encoding="utf-8"))


def test_a_link_that_leads_nowhere_is_found():
    text = "[a](missing.md) ![b](images/missing.png) [c](#missing) [d](docs/index.md#missing) [e](docs/index.md#start)"
    assert broken_links(README, text) == ["missing.md", "images/missing.png", "#missing", "docs/index.md#missing"]
    assert broken_links(README, f"[a]({REPOSITORY}missing) [b]({REPOSITORY}README.md)") == [f"{REPOSITORY}missing"]


def test_the_pages_have_links_and_pictures():
    targets = [target for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))]
    assert len(targets) > 100 and sum(target.endswith((".png", ".svg")) for target in targets) >= 8


def test_every_picture_is_shown_on_a_page():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (README, *PAGES))
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert [picture.name for picture in pictures if f"images/{picture.name}" not in text] == []


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set()
    for page in (README, *PAGES):
        text = page.read_text(encoding="utf-8")
        code = [block.text for block in blocks(text, *SHELLS)] + re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        named |= {name for part in code for name in re.findall(r"^make ([a-z][a-z-]*)", part, re.M)}
    assert {"demo", "test", "docs"} <= named
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.M)] == []


def test_every_file_that_is_named_exists():
    """Paths in code spans that begin with a folder of the repository or end with .py; placeholders are left out."""
    sources = {
        path.relative_to(ROOT).as_posix()
        for part in ("MedFMLib", "MedFM", "Testing")
        for path in (ROOT / part).rglob("*.py")
    }
    missing, count = [], 0
    for page in (README, *PAGES):
        for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
            for path in re.findall(r"(?:^|\s)((?:MedFMLib|MedFM|Resources|Testing)/[\w./-]*\w|[\w/]+\.py)\b", span):
                count += 1
                known = (ROOT / path).exists() or any(source.endswith(f"/{path}") for source in sources)
                missing += [] if known else [f"{page.name}: {path}"]
    assert count > 50
    assert missing == []


def test_every_name_of_the_library_in_running_text_exists():
    """Dotted names in code spans, such as `MedFMLib.measure.basic.measure`."""
    missing, count = [], 0
    for page in (README, *PAGES):
        for span in re.findall(r"`(MedFMLib(?:\.\w+)+)", FENCE.sub("", page.read_text(encoding="utf-8"))):
            count += 1
            missing += [] if resolves(span) else [f"{page.name}: {span}"]
    assert count >= 5
    assert missing == []


def resolves(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    if (ROOT / name.replace(".", "/")).is_dir() or module_file(name).is_file():
        return True
    module, _, attribute = name.rpartition(".")
    return hasattr(importlib.import_module(module), attribute)


def test_every_module_of_the_reference_exists():
    names = [n for page in PAGES for n in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.M)]
    assert len(names) > 30
    assert [
        name for name in names if not (ROOT / name.replace(".", "/")).is_dir() and not module_file(name).is_file()
    ] == []


def module_file(name: str) -> Path:
    """Return the file of a module in this repository."""
    return ROOT / (name.replace(".", "/") + ".py")


def test_what_python_examples_import_and_call_exists():
    """Names imported from MedFMLib, attributes of it, and keyword arguments of its classes and functions."""
    count = 0
    for page in PAGES:
        for example in blocks(page.read_text(encoding="utf-8"), "python"):
            count += check_example(example.text)
    assert count >= 10


def check_example(text: str) -> int:
    """Check the names of a Python example; return how many there were.

    Raises:
        AssertionError: a name or keyword argument that MedFM does not have. SyntaxError: it is no Python.
    """
    names: dict[str, object] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "MedFMLib":
                    names[alias.asname or alias.name] = importlib.import_module(alias.name)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "MedFMLib":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no '{alias.name}'"
                names[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and inspect.ismodule(names.get(node.value.id))
        ):
            assert hasattr(names[node.value.id], node.attr), f"MedFMLib has no '{node.attr}'"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            known = inspect.signature(names[node.func.id]).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
                unknown = {keyword.arg for keyword in node.keywords} - set(known)
                assert not unknown, f"{node.func.id} has no argument {unknown}"
    return len(names)


@pytest.mark.parametrize(
    "planted",
    [
        "from MedFMLib import frobnicate", "import MedFMLib as medfm\nmedfm.frobnicate()",
        "from MedFMLib.core.request import SliceChoice\nSliceChoice(frobnicate=1)",
    ],
)  # fmt: skip
def test_a_python_example_with_a_wrong_name_is_found(planted):
    with pytest.raises(AssertionError, match="frobnicate"):
        check_example(planted)


def test_the_architecture_names_every_package_on_its_floor():
    from support.import_graph import FLOORS

    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\d) \| `(\w+)` \|", text, re.M)
    assert sorted(named) == sorted((str(floor), name) for floor, names in enumerate(FLOORS, 1) for name in names)


@pytest.mark.parametrize("page", pages())
def test_pages_use_plain_words(page):
    text = USED_WORDS.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    assert PRIVATE_WORDS.findall(text) == []


def test_a_private_word_is_found():
    words = [w for w in (ROOT / "Testing" / "support" / "private_words.txt").read_text().split("\n") if w.isalpha()]
    assert len(words) > 5
    assert PRIVATE_WORDS.findall(f"It is {words[0]} by the {words[2]}, and by no shelves.") == [words[0], words[2]]


@pytest.mark.parametrize("page", pages())
def test_no_page_names_a_folder_of_somebody_s_machine(page):
    assert re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\S+", page.read_text(encoding="utf-8")) == []


def test_every_page_and_only_pages_are_in_the_navigation():
    navigation = re.findall(r"^ *- (?:[^:\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(navigation) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES)


def test_the_changelog_has_the_version_and_the_headings_of_keep_a_changelog():
    from MedFMLib import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(__version__)}\] - (unreleased|\d{{4}}-\d\d-\d\d)$", text, re.M)
    assert re.search(r"^## \[Unreleased\]$", text, re.M)
    kinds = set(re.findall(r"^### (.+)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"} and kinds


def test_the_site_loads_nothing_from_the_network():
    yaml = pytest.importorskip("yaml")  # comes with transformers

    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not any(
        str(path).startswith("http") for kind in ("extra_css", "extra_javascript") for path in settings.get(kind, ())
    )
    assert "mermaid" not in "".join(
        language for page in PAGES for _, language, _ in FENCE.findall(page.read_text(encoding="utf-8"))
    )
