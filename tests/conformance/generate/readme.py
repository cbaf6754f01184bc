"""The golden set's README.md: what it is, and its cases."""

from pathlib import Path

from .merges import VERSIONS

TEXT = """# Golden cases

Made by `../make_golden.py` with {versions}; do not edit by hand. {merges} cases must merge, {refusals} must be refused.

`bases/` holds the base models, which cases share. Each other folder is a case:

| file | content |
|---|---|
| `adapter/`, or `adapter-1/`, `adapter-2/` | what is merged |
| `base/` | a base of its own, where the case is about a damaged one |
| `expected.safetensors` | the tensors that the merge changes, in fp32 |
| `case.json` | what to run and what must come of it |

In `case.json`:

- `args`: the arguments of `shardfuse merge`, without `--output`. Paths are relative to the case's folder, which is the
  working directory of the run.
- `expected.status`: `ok` or `error`; with `error`, `kind` and `or_kinds` are the accepted kinds. `may_refuse_as`: the
  case may also be refused with one of these.
- `changed`: the tensors that the merge changes, all of them in `expected.safetensors`. A value is right within
  `tolerance.ulp` units in the last place of the stored dtype, plus `tolerance.noise_rel` times the tensor's largest element.
  The stored dtype is the base tensor's; `base_dtype` for a tensor that the base does not have.
- Every other tensor of `unchanged_as_in` (the base, or the same weights where the base is a pickle) must be in the
  output with the same bytes, and no further one.
- `expected_config`: the values of these keys in the output's config.json; every other key is as in the base.
- `sidecars_from`: the adapter whose tokenizer files the output takes instead of the base's.

`cases.json` is the list of all cases with their `args` and `expected`.

The expected values are PEFT's own merge of the fp32-upcast base with the adapter as stored, run in fp32. Where PEFT is
no oracle, `notes` in the case says what was computed instead. All weights are random.

## Cases that merge

| case | kind | tests |
|---|---|---|
{merge_rows}

## Cases to refuse

| case | error | tests |
|---|---|---|
{refusal_rows}
"""


def write(root: Path, entries: list[dict]) -> None:
    """Write the README beside the cases."""
    good = [entry for entry in entries if entry["expected"]["status"] == "ok"]
    bad = [entry for entry in entries if entry["expected"]["status"] == "error"]
    text = TEXT.format(
        versions=", ".join(f"{name} {version}" for name, version in VERSIONS.items()),
        merges=len(good),
        refusals=len(bad),
        merge_rows="\n".join(f"| `{e['name']}` | {e['kind']} | {e['tests']} |" for e in good),
        refusal_rows="\n".join(f"| `{e['name']}` | `{e['expected']['kind']}` | {e['tests']} |" for e in bad),
    )
    (root / "README.md").write_text(text)
