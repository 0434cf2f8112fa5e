"""Print the page about the commands, made from the commands themselves.

`python -m tools.describe_commands > docs/reference/cli.md`
"""

import sys
from collections.abc import Iterator
from datetime import date, datetime
from textwrap import fill
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from tamarin_dagster.cli.app import COMMANDS, EXIT_STATUSES, PROGRAM, CommandHelp, Panel, load_commands
from tamarin_dagster.cli.documents import COMMANDS_WITH_JSON, Document

_HEAD = f"""# Commands

    {PROGRAM} [--config FILE] COMMAND …

The [settings](settings.md) are in `tamarin.yaml`, or in the file that `--config` or `TAMARIN_CONFIG` names. `--help`
after a command shows what this page says. Answers go to standard output; progress, warnings and errors go to standard
error. `--version` shows the version; `{PROGRAM} doctor` begins with all versions that a bug report needs.

`--install-completion` makes new shells (bash, zsh, fish) complete commands and options. `--show-completion` prints the
script.

## Exit status

| status | |
|---|---|
"""
_FOOT = """
`{} sql` without a query exits with the status of psql.

If a setting is wrong, a database or log bucket cannot be reached, or a folder cannot be written, a command says so in a
line, without a traceback. With `--json` it prints one document to standard output, also with status 1. If the database
is lost, or the command is interrupted, it prints none. Times are ISO 8601, days are delivery days (UTC).
"""
# A datetime is also a date, and a bool is also an int, so the narrower type comes first.
_JSON_TYPES = {bool: "true or false", int: "number", float: "number", str: "text", datetime: "time", date: "day"}
_WIDTH = 120
# Why the tests of the documentation do not run the examples of a command.
_NOT_RUN = {
    "lake-load": "needs a lake, Java and Spark; the tests of the lake run it",
    "lake-compare": "needs a lake; the tests of the lake run it",
}


def describe_commands() -> str:
    """Return the exit statuses, then each command with its help, arguments, options, examples and JSON."""
    statuses = "".join(f"| {status} | {_cell(meaning)} |\n" for status, meaning in EXIT_STATUSES.items())
    parts = [_HEAD + statuses + _FOOT.format(PROGRAM)]
    commands = load_commands()
    for panel in Panel:
        parts.append(f"## {panel.value}\n")
        parts += [
            _describe(command, described)
            for name, command in commands.items()
            if (described := COMMANDS[name]).panel is panel and not command.hidden
        ]
    return "\n".join(parts)


def _describe(command: Any, described: CommandHelp) -> str:
    name = command.name
    usage = " ".join([PROGRAM, name, *(_usage(param) for param in command.params)])
    lines = [f"### {name}\n", f"    {usage}\n", *(f"{fill(each, _WIDTH)}\n" for each in described.text.split("\n\n"))]
    if command.params:
        lines += ["| | default | |", "|---|---|---|", *map(_parameter, command.params), ""]
    if name in _NOT_RUN:
        lines += [f"<!-- not run: {_NOT_RUN[name]} -->", ""]
    for typed, meaning in described.examples:
        lines += [f"    # {meaning}", f"    {PROGRAM} {typed}"]
    lines += [""] * bool(described.examples)
    if document := COMMANDS_WITH_JSON.get(name):
        lines += [f"{document.__doc__}\n", "| name | type | |", "|---|---|---|", *_fields(document, ""), ""]
    return "\n".join(lines)


def _usage(param: Any) -> str:
    """Return a parameter as in the first line of a help; brackets mean optional."""
    if param.param_type_name == "argument":
        return str(param.metavar) if param.required else f"[{param.metavar}]"
    text = " ".join([param.opts[0], *([param.metavar] if param.metavar else [])])
    return text if param.required else f"[{text}]"


def _parameter(param: Any) -> str:
    is_argument = param.param_type_name == "argument"
    value = "" if is_argument or not param.metavar else f" {param.metavar}"
    name = (param.metavar if is_argument else param.opts[0]) + value
    default = "required" if param.required else "" if param.default in {None, False} else f"`{param.default}`"
    return f"| `{_cell(name)}` | {default} | {_cell(param.help)} |"


def _fields(document: type[Document], path: str) -> Iterator[str]:
    """Yield a row for each name; the names of a nested object follow a dot."""
    for name, field in document.model_fields.items():
        kind, inner, suffix = _kind(field.annotation)
        yield f"| `{path}{name}{suffix}` | {kind} | {_cell(field.description or '')} |"
        if inner is not None:
            yield from _fields(inner, f"{path}{name}{suffix}.")


def _kind(annotation: Any) -> tuple[str, type[Document] | None, str]:
    """Return the name of a type, the document that it is or lists, and `[]` for a list."""
    arguments = get_args(annotation)
    if get_origin(annotation) in {Union, UnionType}:
        present = next(each for each in arguments if each is not NoneType)
        kind, inner, suffix = _kind(present)
        return f"{kind} or null", inner, suffix
    if get_origin(annotation) is tuple:
        _, inner, _ = _kind(arguments[0])
        return "list", inner, "[]"
    if get_origin(annotation) is dict:
        return "object of numbers", None, ""
    if issubclass(annotation, Document):
        return "object", annotation, ""
    return next(name for known, name in _JSON_TYPES.items() if issubclass(annotation, known)), None, ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(describe_commands())
