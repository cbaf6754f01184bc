"""A reader of the output who looks all the time and must never see a loadable half."""

import threading
import time
from collections.abc import Callable


class Watch:
    """Looks at the keys below a prefix, in a thread of its own, from the submission to the end."""

    def __init__(self, keys: Callable[[], set[str]], weights: int) -> None:
        self.keys, self.weights = keys, weights
        self.looks = 0
        self.broken: str | None = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.over.is_set():
            try:
                visible = self.keys()
            except OSError:
                # The server was busy; the next look counts.
                time.sleep(0.1)
                continue
            self.looks += 1
            weights = {name for name in visible if name.endswith(".safetensors")}
            if "config.json" in visible and len(weights) != self.weights:
                self.broken = f"config.json was there with {sorted(weights)}"
            time.sleep(0.05)

    def end(self) -> int:
        """Stops looking; how often it looked. Fails if a half was there."""
        self.over.set()
        self.thread.join(30)
        assert not self.broken, self.broken
        assert self.looks > 20, f"only {self.looks} looks at the output"
        return self.looks
