"""One line a check, and the count at the end."""

import time
import traceback
from collections.abc import Callable


class Report:
    """Counts what passed and what failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._began = time.monotonic()

    def check(self, name: str, good: bool, detail: str) -> bool:
        """Print one check; whether it passed."""
        print(f"{'ok  ' if good else 'FAIL'} {name}: {detail}", flush=True)
        self.passed += good
        self.failed += not good
        return good

    def guarded(self, name: str, work: Callable[[], None]) -> None:
        """Run checks; an exception is a failed check, and the others go on."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  (whatever it is, it fails this check only)
            traceback.print_exc()
            self.check(name, False, f"{type(error).__name__}: {error}")

    def close(self) -> int:
        """Print the counts; the exit code."""
        print(f"took {time.monotonic() - self._began:.0f} s")
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
