"""How many bytes workers must move, by the shapes alone."""

from checkpoint import Checkpoint, File

# The smallest part on object storage, and so the most that is made beyond either end of what changes.
LEAST = 8 << 20


def changed(file: File) -> list[range]:
    """What of a file is not copied: its header, and the matrices of attention; neighbours are one."""
    found, at = [range(len(file.header))], len(file.header)
    for tensor in file.tensors:
        bytes_of = range(at, at + tensor.size)
        if ".self_attn." in tensor.name and tensor.name.endswith("_proj.weight"):
            if found[-1].stop == at:
                bytes_of = range(found.pop().start, bytes_of.stop)
            found.append(bytes_of)
        at += tensor.size
    return found


def made(checkpoint: Checkpoint) -> int:
    """The bytes of all pieces of the smallest size that hold a changed byte, which nobody can copy."""
    total = 0
    for file in checkpoint.files:
        pieces = {piece for run in changed(file) for piece in range(run.start // LEAST, -(-run.stop // LEAST))}
        total += sum(min(file.size, (piece + 1) * LEAST) - piece * LEAST for piece in pieces)
    return total


def bound(checkpoint: Checkpoint) -> int:
    """What changes, and at each of its runs an edge on both sides."""
    return sum(len(run) + 2 * LEAST for file in checkpoint.files for run in changed(file))


def percent(part: float, checkpoint: Checkpoint) -> str:
    return f"{part / 1e6:.1f} MB ({100 * part / checkpoint.size:.2f} %)"
