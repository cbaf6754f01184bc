"""What is done to a running merge, and how one sees that it took effect."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet import Fleet
from heldputs import HeldPuts
from proxy import Proxy

PATIENCE = 120.0


@dataclass
class Run:
    """One merge on one fleet."""

    fleet: Fleet
    merge: str
    rng: random.Random
    proxies: list[Proxy] = field(default_factory=list)
    held: HeldPuts | None = None

    def progress(self) -> dict:
        return self.fleet.get(self.merge)

    def wait(self, condition: Callable[[dict], bool], what: str) -> dict:
        """Waits for the merge to be as wanted; the merge's end is an error."""
        deadline = time.monotonic() + PATIENCE
        while True:
            merge = self.fleet.get(self.merge)
            if condition(merge):
                return merge
            assert merge["state"] not in ("done", "failed", "cancelled"), f"the merge ended before {what}: {merge}"
            assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}: {merge}"
            time.sleep(0.02)

    def until(self, count: Callable[[], int], what: str) -> int:
        """Waits for a count that is not zero."""
        self.wait(lambda _: count() > 0, what)
        return count()

    def reach(self, share: float) -> None:
        self.wait(
            lambda m: m["bytes_total"] and m["bytes_done"] >= share * m["bytes_total"],
            f"{share:.0%}",
        )

    def lose(self, what: str, act: Callable[[], object]) -> int:
        """Does something and waits until leases end by it; how many did."""
        before = self.progress()["expired"]
        act()
        return self.wait(lambda m: m["expired"] > before, what)["expired"] - before

    def kept(self) -> int:
        """Waits until a coordinator has read the journal of the one before it; how many parts it kept."""
        merge = self.wait(lambda m: m["parts_kept"] > 0 or m["state"] == "done", "the journal to be read")
        assert merge["parts_kept"] > 0, f"nothing was kept: {merge}"
        return merge["parts_kept"]

    def share(self) -> float:
        """A point of the merge at which a fault finds work under way."""
        return self.rng.uniform(0.02, 0.6)


class Fault:
    """Does something to a run; `inject` returns what proves that it took effect, and fails if nothing does."""

    name = ""
    proxied = False
    slow_worker = False
    held = False
    # The least epoch that must have put a part by the end: attempts count from 1, those of the next coordinator from 1001.
    epoch = 1

    def inject(self, run: Run) -> str:
        raise NotImplementedError


class KillWorker(Fault):
    """SIGKILL of a worker: its attempts run out and are made again elsewhere; another worker takes its place."""

    name = "worker killed"
    epoch = 2

    def inject(self, run: Run) -> str:
        run.reach(run.share())
        victim = run.rng.choice(run.fleet.workers)
        ended = run.lose("a lease of the killed worker to end", victim.kill)
        victim.start()
        return f"{ended} leases ended with {victim.name}"


class KillAllWorkers(Fault):
    """Every worker dies at once; new ones come."""

    name = "all workers killed"
    epoch = 2

    def inject(self, run: Run) -> str:
        run.reach(run.share())
        ended = run.lose("the leases to end", lambda: [worker.kill() for worker in run.fleet.workers])
        for worker in run.fleet.workers:
            worker.start()
        return f"{ended} leases ended"


class KillCoordinator(Fault):
    """SIGKILL of the coordinator; the next one goes on from the journal."""

    name = "coordinator killed"
    epoch = 1001

    def inject(self, run: Run) -> str:
        run.reach(max(0.1, run.share()))
        coordinator = run.fleet.coordinator
        coordinator.kill()
        time.sleep(run.rng.choice([0, 0, 0.5, 2.5]))
        coordinator.start()
        return f"{run.kept()} parts were kept"


class KillBoth(Fault):
    """Coordinator and a worker die together."""

    name = "coordinator and worker killed"
    epoch = 1001

    def inject(self, run: Run) -> str:
        run.reach(max(0.1, run.share()))
        victim = run.rng.choice(run.fleet.workers)
        victim.kill()
        run.fleet.coordinator.kill()
        run.fleet.coordinator.start()
        victim.start()
        return f"{run.kept()} parts were kept, {victim.name} began anew"


class Zombie(Fault):
    """SIGSTOP of a worker past its lease with a part on the way: others do its tasks, then its put lands, and it wakes."""

    name = "zombie"
    held = True
    epoch = 2

    def inject(self, run: Run) -> str:
        run.reach(run.share())
        victim, held = run.fleet.workers[0], run.held
        assert held
        held.hold()
        run.until(held.whole, "a part of the worker to be on its way")
        try:
            ended = run.lose("the lease of the stopped worker to end", lambda: victim.signal(signal.SIGSTOP))
            held.let_go()
            late = run.until(held.landed, "the late put to land")
        finally:
            victim.signal(signal.SIGCONT)
        return f"{ended} leases ended while {victim.name} was stopped, {late} of its puts landed after that"


class CutLine(Fault):
    """The line between a worker and the coordinator breaks under a live lease, and is mended."""

    name = "line cut"
    proxied = True

    def inject(self, run: Run) -> str:
        run.reach(run.share())
        proxy = run.rng.choice(run.proxies)
        before = proxy.connections
        broken = proxy.cut()
        assert broken > 0, "no connection was there to be cut"
        time.sleep(run.rng.choice([0.1, 1.0, 3.0]))
        proxy.mend()
        deadline = time.monotonic() + PATIENCE
        while proxy.connections == before:
            assert time.monotonic() < deadline, "the worker did not come back"
            time.sleep(0.02)
        return f"{broken} connections cut, the worker came back"


class StallLine(Fault):
    """Nothing passes between a worker and the coordinator for longer than a lease."""

    name = "line stalled"
    epoch = 2
    proxied = True

    def inject(self, run: Run) -> str:
        run.reach(run.share())
        proxy = run.rng.choice(run.proxies)

        def stall() -> None:
            assert proxy.stall() > 0, "no connection was there to be stalled"

        try:
            ended = run.lose("the lease behind the line to end", stall)
        finally:
            proxy.mend()
        return f"{ended} leases ended behind the line"


class Drain(Fault):
    """SIGTERM of a worker: it finishes or hands back what it has, and exits with 0."""

    name = "worker drained"

    def inject(self, run: Run) -> str:
        run.reach(run.share())
        victim = run.rng.choice(run.fleet.workers)
        code = victim.end()
        assert code == 0, f"{victim.name} ended with {code}"
        victim.start()
        return f"{victim.name} ended with 0"


class SlowWorker(Fault):
    """A worker is far slower than the others: its last tasks are repeated elsewhere."""

    name = "slow worker"
    epoch = 2
    slow_worker = True

    def inject(self, run: Run) -> str:
        merge = run.wait(lambda m: m["repeated"] > 0, "a slow task to be repeated")
        return f"{merge['repeated']} slow tasks were repeated"


FAULTS: list[type[Fault]] = [
    KillWorker, KillAllWorkers, KillCoordinator, KillBoth, Zombie, CutLine, StallLine, Drain, SlowWorker,
]
