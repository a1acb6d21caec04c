"""Which projects have loaded a model or an adapter.

The same content is in memory once, however many have loaded it. To a project that has not, it is as if it were not
there.
"""

from __future__ import annotations

from tunix_rt.rpc.projects import DEFAULT_PROJECT, current_project


class Holders:
    """The projects, each with the reference that it has loaded the content by."""

    def __init__(self) -> None:
        self._references: dict[str, str] = {}

    def add_caller(self, reference: str) -> None:
        """The caller's project has loaded it, and so has shown that it can read ``reference``."""
        self._references.setdefault(current_project() or DEFAULT_PROJECT, reference)

    def include_caller(self) -> bool:
        """Whether the caller sees it; callers of the whole instance see all."""
        project = current_project()
        return not project or project in self._references

    def reference(self, first: str) -> str:
        """By which reference the caller's project has loaded it; ``first`` for callers of the whole instance."""
        return self._references.get(current_project(), first)

    def remove_caller(self) -> bool:
        """The caller's project needs it no more; returns whether nobody else does. A caller of the whole instance
        speaks for all."""
        project = current_project()
        if project:
            self._references.pop(project, None)
        return not project or not self._references
