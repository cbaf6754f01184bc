"""A program that uses the module: mypy --strict takes it. Never run."""

import shardfuse


def show(progress: shardfuse.Progress) -> None:
    print(f"{progress.stage} {progress.share:.0%}")


def work() -> str | None:
    lora: list[str | shardfuse.Adapter] = ["first", shardfuse.Adapter("second", 0.8)]
    plan: shardfuse.Plan = shardfuse.plan("base", lora, "merged", dtype="bf16")
    try:
        result = shardfuse.merge("base", lora, "merged", on_progress=show, memory="4GiB", threads=plan.tasks)
    except shardfuse.RetryableError as error:
        return error.hint
    there = shardfuse.Coordinator("http://127.0.0.1:7070")
    merge: shardfuse.FleetMerge = shardfuse.submit("s3://b/base", lora, "s3://b/out", coordinator=there)
    return shardfuse.watch(merge, coordinator=there, on_progress=show).plan or result.plan
