"""The single-machine platform: a real nats-server and the five services under one supervisor.

Importing this package is cheap; `LocalPlatform` is loaded on first use, so that the client may read `platform_file`
without paying for the supervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunix_rt.local.supervisor import LocalPlatform, PlatformError

__all__ = ["LocalPlatform", "PlatformError"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from tunix_rt.local import supervisor

        return getattr(supervisor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
