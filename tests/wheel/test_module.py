"""The module as it is installed: merges, failures, progress, stopping, and a fleet on this machine.

    python test_module.py WORK        in an environment that has the wheel; SHARDFUSE_BINARY must not be set
"""

import contextlib
import hashlib
import inspect
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import shardfuse
from shardfuse import Adapter, Coordinator, Progress

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(sys.argv[1])
BASE, LORA, DORA = (ROOT / "examples" / name for name in ("tiny-llama", "lora-dialogue", "dora-orders"))
PATIENCE = 120  # seconds that a condition may take on a busy machine


def binary(*args):
    """The program by itself; its stdout."""
    command = [shardfuse.find_binary(), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def raised(kind, call):
    """The exception of a call that must fail: of exactly this class."""
    try:
        call()
    except shardfuse.Error as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"no {kind.__name__}")


def digests(folder):
    files = [file for file in folder.iterdir() if file.is_file() and file.name != "shardfuse.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def the_installed_program():
    found = shardfuse.find_binary()
    assert found.parent == Path(sys.executable).parent, f"{found} is not the wheel's"
    assert binary("--version").split()[:2] == ["shardfuse", shardfuse.__version__]
    os.environ["SHARDFUSE_BINARY"] = "/nothing/here"
    error = raised(shardfuse.UsageError, shardfuse.find_binary)
    assert "/nothing/here" in error.message, error
    del os.environ["SHARDFUSE_BINARY"]


def an_option_that_there_is_not():
    try:
        shardfuse.merge(BASE, LORA, WORK / "nothing", part_sise="16KiB")
    except TypeError as error:
        assert "'part_sise'" in str(error) and "'part_size'" in str(error), error
    else:
        raise AssertionError("an unknown option is taken")


def a_merge():
    lora = [LORA, Adapter(DORA, weight=1)]
    planned = shardfuse.plan(BASE, lora, WORK / "merged", part_size="16KiB")
    assert [adapter.kind for adapter in planned.adapters] == ["LoRA", "DoRA"], planned.adapters
    assert not (WORK / "merged").exists()
    seen = []
    result = shardfuse.merge(BASE, lora, WORK / "merged", part_size="16KiB", on_progress=seen.append)
    assert (result.plan, result.tensors_changed) == (planned.plan, planned.tensors_changed)
    assert result.parts_written > 1 and not result.already_done, result
    assert {file.name for file in result.files} >= {"model.safetensors", "config.json"}
    assert all(file.blake3 is not None and len(file.blake3) == 64 for file in result.files)
    assert isinstance(seen[0], Progress) and seen[0].stage == "waiting" and seen[0].share == 0
    assert seen[-1].stage == "publishing" and seen[-1].share == 1, seen[-1]
    again = shardfuse.merge(BASE, lora, WORK / "merged", part_size="16KiB")
    assert again.already_done and again.parts_written == 0, again

    alone = WORK / "alone"
    binary("merge", "--base", BASE, "--lora", LORA, "--lora", DORA, "--output", alone, "--part-size=16KiB", "-q")
    assert digests(alone) == digests(WORK / "merged"), "the module and the program merge differently"
    # Paths are taken literally, where the command line would split them.
    odd = WORK / "a=1, ü"
    odd.symlink_to(LORA)
    shardfuse.merge(BASE, odd, WORK / "odd", dtype="f16", threads=1, memory=1 << 28)
    print(f"merged {result.tensors_changed} tensors; the same bytes as the program")


def the_model_loads():
    """With transformers, if this environment reaches one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(WORK / "merged")
    tokens = AutoTokenizer.from_pretrained(WORK / "merged")("hello", return_tensors="pt")
    assert model(**tokens).logits.isfinite().all()
    print("transformers loads it:", type(model).__name__)


def failures():
    error = raised(shardfuse.MissingFileError, lambda: shardfuse.merge(BASE, WORK / "nothing", WORK / "out"))
    assert isinstance(error, shardfuse.RefusedError) and error.exit_code == 3 and error.kind == "missing_file"
    raised(shardfuse.OutputExistsError, lambda: shardfuse.merge(BASE, LORA, WORK / "merged"))
    error = raised(shardfuse.UsageError, lambda: shardfuse.merge(BASE, LORA, WORK / "out", part_size="3KiB"))
    assert "3" in error.message and pickle.loads(pickle.dumps(error)).kind == "usage"
    error = raised(shardfuse.UsageError, lambda: shardfuse.plan(BASE, LORA, WORK / "out", memory="1KiB"))
    assert error.hint and error.hint in str(error)
    # A command that refuses its flags reads no spec, however long that is.
    long = [Adapter(f"{'x' * 4000}{number}") for number in range(100)]
    raised(shardfuse.UsageError, lambda: shardfuse.merge(BASE, long, WORK / "out", limit_rate="fast"))

    documented = (ROOT / "docs/cli.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d) \| ", documented.split("## Errors")[1], re.M))
    known = {kind: str(known.exit_code) for kind, known in shardfuse.BY_KIND.items()}
    assert known == rows, set(known.items()) ^ set(rows.items())
    print(f"{len(known)} kinds of failures, each a class with the documented exit code")


def a_killed_program():
    """Without an answer of the program, the error says how it ended."""
    fake = WORK / "fake"
    fake.write_text("#!/bin/sh\necho going down >&2\nkill -KILL $$\n")
    fake.chmod(0o755)
    os.environ["SHARDFUSE_BINARY"] = str(fake)
    error = raised(shardfuse.InternalError, lambda: shardfuse.plan(BASE, LORA, WORK / "out"))
    assert "SIGKILL" in error.message and "going down" in error.message, error
    del os.environ["SHARDFUSE_BINARY"]


def every_option():
    """The module takes what a merge spec and the commands take; a new flag of the program must be put into it, or named here."""
    def flags(command):
        return set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", binary(command, "--help"), re.M))

    spec = {field.replace("_", "-") for field in shardfuse.Options.__annotations__} - {"ignore-files"} | {"ignore-file"}
    # Formats are the module's own; --resume is the default; `submit` with `watch` is `merge --coordinator`.
    own = {"format", "error-format", "log-format", "progress", "quiet", "help", "spec", "resume", "wait"}
    reached = {"coordinator", "tls-ca", "tls-cert", "tls-key", "tls-name", "insecure"}
    for name, left_out in {
        "plan": {"threads"},
        "merge": reached | {"priority", "gpu-patience"},
        "submit": set(),
        "watch": set(),
        "cancel": set(),
    }.items():
        taken = {p.replace("_", "-") for p in inspect.signature(getattr(shardfuse, name)).parameters} - {"options"}
        taken |= reached if "coordinator" in taken else set()
        taken |= spec if "base" in taken else set()
        there = flags(name) - own - left_out
        assert there == taken - {"merge", "on-progress"}, (name, there ^ (taken - {"merge", "on-progress"}))
    print("every flag of plan, merge, submit, watch and cancel has its parameter")


def ended(process_ids):
    """That no such process runs."""
    deadline = time.monotonic() + PATIENCE
    while [process for process in process_ids if Path(f"/proc/{process}").exists()]:
        assert time.monotonic() < deadline, f"{process_ids} run on"
        time.sleep(0.05)


def children():
    return [int(p) for t in Path("/proc/self/task").iterdir() for p in (t / "children").read_text().split()]


def slow(name, **more):
    """A merge that takes minutes: at this rate nobody waits for its end."""
    return shardfuse.merge(BASE, LORA, WORK / name, part_size="16KiB", limit_rate="16KiB", **more)


def a_callback_that_raises():
    class Enough(Exception):
        pass

    started = []

    def stop(progress):
        if progress.bytes_done > 0:
            started.extend(children())
            raise Enough

    try:
        slow("stopped", on_progress=stop)
    except Enough:
        pass
    else:
        raise AssertionError("the callback's exception is lost")
    assert len(started) == 1, started
    ended(started)
    assert not (WORK / "stopped" / "config.json").exists()
    # What was finished stays, and the same call goes on.
    result = shardfuse.merge(BASE, LORA, WORK / "stopped", part_size="16KiB")
    assert result.parts_kept > 0, result
    print(f"a callback that raises stops the merge; {result.parts_kept} parts were kept")


def an_interrupt():
    started = []

    def interrupt(progress):
        if progress.bytes_done > 0 and not started:
            started.extend(children())
            # As Ctrl-C does it: while the call waits for the program.
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    try:
        slow("interrupted", on_progress=interrupt)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("the interrupt is lost")
    assert len(started) == 1, started
    ended(started)
    assert shardfuse.merge(BASE, LORA, WORK / "interrupted", part_size="16KiB").parts_kept > 0
    print("an interrupt stops the merge, and the same call goes on")


def a_signal_to_the_program():
    """Somebody else stops the program: that is a failure of its kind."""
    def stop(progress):
        if progress.bytes_done > 0:
            for child in children():
                os.kill(child, signal.SIGTERM)

    error = raised(shardfuse.StoppedError, lambda: slow("signalled", on_progress=stop))
    assert (error.kind, error.exit_code) == ("interrupted", 4), error


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def process(name, *args):
    with (WORK / f"{name}.log").open("w") as log:
        started = subprocess.Popen([shardfuse.find_binary(), *map(str, args)], stdout=log, stderr=log)
        try:
            yield
        except BaseException:
            print(f"--- {name}\n{(WORK / f'{name}.log').read_text()[-4000:]}")
            raise
        finally:
            started.terminate()
            started.wait(PATIENCE)


def a_fleet():
    there = Coordinator(f"http://127.0.0.1:{free_port()}")
    outputs = WORK / "outputs"
    outputs.mkdir()
    allow = [f"--allow={ROOT / 'examples'}", f"--allow={outputs}"]
    listen = there.url.removeprefix("http://")
    refused = raised(shardfuse.IoError, lambda: shardfuse.submit(BASE, LORA, outputs / "a", coordinator=there))
    assert isinstance(refused, shardfuse.RetryableError), refused
    with process("coordinator", "coordinator", f"--listen={listen}", f"--state={WORK / 'state'}", *allow):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                merge = shardfuse.submit(BASE, LORA, outputs / "a", coordinator=there, part_size="16KiB", priority=2)
                break
            except shardfuse.RetryableError:
                assert time.monotonic() < deadline, "the coordinator does not answer"
                time.sleep(0.1)
        assert not merge.known and merge.priority == 2, merge
        # Watching without a worker: an exception ends the watching, the merge goes on.
        def leave(progress):
            raise StopIteration

        try:
            shardfuse.watch(merge, coordinator=there, on_progress=leave)
        except StopIteration:
            pass
        seen = []
        with process("worker", "worker", f"--coordinator={there.url}", "--memory=64MiB", *allow):
            done = shardfuse.watch(merge, coordinator=there, on_progress=seen.append)
        assert (done.state, done.id) == ("done", merge.id) and done.parts_written > 1, done
        assert seen[-1].bytes_done == seen[-1].bytes_total > 0, seen
        again = shardfuse.submit(BASE, LORA, outputs / "a", coordinator=there.url, part_size="16KiB")
        assert again.known and again.id == merge.id, again
        shardfuse.merge(BASE, LORA, WORK / "beside", part_size="16KiB")
        assert digests(outputs / "a") == digests(WORK / "beside")

        waiting = shardfuse.submit(BASE, LORA, outputs / "b", coordinator=there)
        cancelled = shardfuse.cancel(waiting, coordinator=there, discard=True)
        assert cancelled.id == waiting.id
        raised(shardfuse.StoppedError, lambda: shardfuse.watch(waiting, coordinator=there))
        raised(shardfuse.NotAllowedError, lambda: shardfuse.submit("/etc", LORA, outputs / "c", coordinator=there))
    print(f"a fleet: merged {done.bytes_total} bytes in {done.parts_written} parts, cancelled another")


def main():
    tests = [
        the_installed_program, an_option_that_there_is_not, a_merge, the_model_loads, failures, a_killed_program, every_option,
        a_callback_that_raises, an_interrupt, a_signal_to_the_program, a_fleet,
    ]
    for test in tests:
        test()
    print(f"{len(tests)} passed, 0 failed")


main()
