"""The way to a coordinator."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .spec import Place


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's URL, and what it takes to be let in. What is ``None`` comes from the environment (``SHARDFUSE_TLS_CA``
    and so on), as on the command line."""

    url: str | None = None
    tls_ca: Place | None = None
    tls_cert: Place | None = None
    tls_key: Place | None = None
    tls_name: str | None = None
    insecure: bool = False

    def arguments(self) -> list[str]:
        """The flags."""
        values = {
            "--coordinator": self.url,
            "--tls-ca": self.tls_ca,
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
            "--tls-name": self.tls_name,
        }
        flags = [f"{flag}={os.fspath(value)}" for flag, value in values.items() if value is not None]
        return flags + (["--insecure"] if self.insecure else [])


def arguments(coordinator: Coordinator | str | None) -> list[str]:
    """The flags of a coordinator; of ``None``, the one that ``SHARDFUSE_COORDINATOR`` names."""
    there = coordinator if isinstance(coordinator, Coordinator) else Coordinator(coordinator)
    return there.arguments()
