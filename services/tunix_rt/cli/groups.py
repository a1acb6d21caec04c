"""Command groups whose help lists every command with its whole first sentence, and whose modules load on demand."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

# Wider terminals get longer lines, up to this.
MAX_WIDTH = 120
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}
_WHOLE = 10_000


class Group(TyperGroup):
    """Click cuts a command's first sentence at the end of the line; here it continues on the next."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, found.get_short_help_str(_WHOLE)) for name, found in commands if found and not found.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Entry(NamedTuple):
    """A top-level command: its module in ``cli/commands``, and its help. A group is the module's ``app`` itself."""

    module: str
    help: str
    is_group: bool = True


class LazyGroup(Group):
    """Imports the module of a command when the command is used, so that `--help` and others do not wait for it."""

    tree: dict[str, Entry]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.tree)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = self.tree.get(cmd_name)
        if entry is None:
            return None
        app: typer.Typer = import_module(f"tunix_rt.cli.commands.{entry.module}").app
        found: Any = typer.main.get_command(app)
        if not entry.is_group:
            return found.commands[cmd_name] if hasattr(found, "commands") else found
        found.help = entry.help
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.tree.items()])


def new_group(name: str) -> typer.Typer:
    """An app for the commands of one noun; its help is in the tree of `main`."""
    return typer.Typer(
        name=name,
        cls=Group,
        rich_markup_mode=None,
        context_settings=SETTINGS,
        no_args_is_help=True,
        add_completion=False,
    )
