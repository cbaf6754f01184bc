"""What may happen to a merge while the store copies: the process dies, or somebody overwrites the base."""

import json
import random
import subprocess
import time

import objects
from checkpoint import Checkpoint
from line import Line
from place import Place, error

# Small parts make many copies.
PART = "8MiB"
KILLS = 4
TRIES = 12


def killed(place: Place, flags: list[str], expected: dict[str, str]) -> str:
    """Kills a merge again and again while it copies, then lets it end.

    The first copy of a process is a trial in an upload of its own, which nobody has written down: a kill before its end leaves
    that upload behind. So kills come after it.
    """
    rng, line = random.Random(7), Line(place.target, pace=0.15)
    merge = ["merge", *flags, "--output", place.url("killed"), "--part-size", PART]
    kills = 0
    for _ in range(TRIES):
        seen = line.copies
        command = place.command(*merge, *(["--take-over"] if kills else []))
        process = subprocess.Popen(
            command, env=place.through(line.url), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and line.copies < seen + 2:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        begun = place.s3.uploads(place.bucket, "killed/")
        ended = process.poll() is not None
        process.kill()
        _, said = process.communicate()
        assert not ended, f"the merge ended with {process.returncode} before it could be killed: {said.strip()}"
        kills += bool(begun)
        if kills == KILLS:
            break
    assert kills == KILLS, f"only {kills} of {TRIES} kills came while an upload was in progress"
    line.pace = 0
    end = place.result(*merge, "--take-over", endpoint=line.url)
    line.close()
    assert end["parts_kept"] > 0, "the merge began anew"
    assert place.digests("killed") == expected, "the digests differ from the undisturbed merge's"
    place.nothing_is_left("killed")
    place.remove("killed")
    return f"{kills} kills in mid-copy, {end['parts_kept']} parts kept, {end['parts_written']} written at last; equal digests"


def overwritten(place: Place, base: Checkpoint, prefix: str, flags: list[str]) -> str:
    """Overwrites a file of the base by another one of its size while parts of it are copied. The base is of no use after it."""
    file = base.files[-1]
    key = f"{prefix}/{file.name}"
    other = objects.Upload(place.s3, place.bucket, key, file.bytes("other"))
    seen: list[str] = []

    def before(source: str) -> None:
        if source.endswith(f"/{key}"):
            seen.append(source)
            # The first requests are a trial, whose copies count for nothing.
            if len(seen) == 8:
                other.complete()

    line = Line(place.target, pace=0.05, before=before)
    ran = place.run("merge", *flags, "--output", place.url("overwritten"), "--part-size", PART, endpoint=line.url)
    line.close()
    assert len(seen) >= 8, f"the base was to be overwritten after 8 requests for copies, and there were {len(seen)}"
    assert ran.returncode != 0, "a merge of two versions of the base succeeded"
    told = error(ran)
    assert told["kind"] == "input_changed", f"it failed otherwise: {json.dumps(told)}"
    assert key in told["message"], f"it does not name {key}: {told['message']}"
    published = [key for key in place.s3.keys(place.bucket, "overwritten/") if "/.shardfuse/" not in key]
    assert not published, f"it published {published}"
    return f"exit code {ran.returncode}, {told['kind']}: {told['message']}"
