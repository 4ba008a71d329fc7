"""One embedded hub per data directory."""

from __future__ import annotations

import fcntl
import os
from typing import TextIO

from hub.errors import ConfigError
from hub.settings import Settings


class OneProcess:
    """Keeps a second embedded hub off the same SQLite file. The operating system lets go of it when the process dies."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.data_dir / "hub.lock"
        self._file: TextIO | None = None

    def __enter__(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            raise ConfigError(
                f"another hub (process {holder}) is running on {self._path.parent}; stop it, or set HUB_DATA_DIR to "
                "another folder, or use PostgreSQL for several processes"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
