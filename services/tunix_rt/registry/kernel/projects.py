"""Projects: every row of a team's work belongs to one, and a session that works in a project sees and makes rows of it
alone.

This is the one place where that is enforced. A session takes its project from the call being served; "" is the whole
instance: the registry's own work, and reads of callers that belong to no project. A job's worker works in the project
of the job (`work_in`). What a query reads without the ORM, it must ask for by the id of a row that the ORM has found.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, column, event, or_
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption
from sqlmodel import Session as SqlModelSession
from sqlmodel import SQLModel

from tunix_rt.rpc.projects import DEFAULT_PROJECT, current_project

# Rows of this "project" belong to all of them. No project can have the name.
SHARED: Final = "*"
_PROJECT: Final = "tunix_rt.project"


class ProjectColumns(SQLModel):
    """Mixin of a table whose rows belong to a project; "" until the row is written."""

    project: str = ""

    @classmethod
    def is_of(cls, project: Any) -> ColumnElement[bool]:
        """The condition for rows that ``project`` sees."""
        # The mixin itself has no column; SQLAlchemy looks at the condition of it once, before those of the tables.
        found: ColumnElement[bool] = getattr(cls, "project", column("project")) == project
        return found


class SharedProjectColumns(ProjectColumns):
    """Of tables with rows that every project sees, too."""

    @classmethod
    def is_of(cls, project: Any) -> ColumnElement[bool]:
        return or_(super().is_of(project), super().is_of(SHARED))


class ProjectSession(SqlModelSession):
    """A session that works in the project of the call being served."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.info[_PROJECT] = current_project()


def project_of(session: Session) -> str:
    """The project that the session works in; "" is the whole instance."""
    found: str = session.info.get(_PROJECT, "")
    return found


def own_project(session: Session) -> str:
    """The project that new rows get, and in which names are looked up."""
    return project_of(session) or DEFAULT_PROJECT


def work_in(session: Session, project: str) -> None:
    """Work in ``project`` from now on: what a job's worker makes belongs to the project of the job."""
    session.info[_PROJECT] = project


@lru_cache(maxsize=1024)
def _only(project: str) -> ExecutableOption:
    return with_loader_criteria(ProjectColumns, lambda table: table.is_of(project), include_aliases=True)


@event.listens_for(ProjectSession, "do_orm_execute")
def _read_own(state: ORMExecuteState) -> None:
    project = project_of(state.session)
    # What a row that is here already needs of its own columns was found before.
    if project and not state.is_column_load:
        state.statement = state.statement.options(_only(project))


@event.listens_for(ProjectSession, "before_flush")
def _write_own(session: Session, _: UOWTransaction, __: object) -> None:
    project = project_of(session)
    for row in session.new:
        if not isinstance(row, ProjectColumns):
            continue
        row.project = row.project or own_project(session)
        if project and row.project != project:
            raise AssertionError(f"a row of project {row.project!r} was made in project {project!r}: {row!r}")
