"""What manifest and `verify` say of an output."""

import objects
from place import Place, error


def weights(place: Place, prefix: str) -> list[dict]:
    return [file for file in place.manifest(prefix)["files"] if file["name"].endswith(".safetensors")]


def joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, neighbours as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found


def parts(file: dict) -> list[tuple[int, int, str | None]]:
    """First byte, end and digest of each part of a file whose parts have sizes of their own."""
    ends = file["ends"]
    assert len(ends) == len(file["parts"]) and ends[-1] == file["size"], f"the parts of {file['name']} do not fill it"
    return list(zip([0, *ends], ends, file["parts"]))


def without_digests(place: Place, prefix: str) -> str:
    """The store copied and nobody read: the manifest says so exactly, and `verify` too."""
    unread = 0
    for file in weights(place, prefix):
        assert file["blake3"] is None, f"{file['name']} has a digest, and nobody read it"
        null = joined([(start, end) for start, end, digest in parts(file) if digest is None])
        told = joined([(each["offset"], each["offset"] + each["length"]) for each in file["unread"]])
        assert null == told, f"unread of {file['name']} is {told}, parts without a digest are {null}"
        unread += sum(end - start for start, end in told)
    said = place.result("verify", place.url(prefix))
    assert said["unread_bytes"] == unread and not said["problems"], f"verify says {said}, {unread} bytes were not read"
    assert "not checked: " in place.text("verify", place.url(prefix)), "verify does not say what it did not check"
    said = place.result("verify", place.url(prefix), "--full")
    assert said["unread_bytes"] == 0 and not said["problems"], f"verify --full says {said}"
    return f"blake3 is null, {unread / 1e6:.1f} MB unread; verify and verify --full pass"


def with_digests(place: Place, prefix: str) -> str:
    """Every digest is in the manifest, and `verify` finds it in the bytes that it reads."""
    for file in weights(place, prefix):
        assert file["blake3"] and all(file["parts"]) and not file.get("unread"), f"{file['name']} lacks digests"
    assert "not checked" not in place.text("verify", place.url(prefix)), "verify left something out"
    return "every digest known, and equal to that of the bytes read back"


def damaged(place: Place, prefix: str) -> str:
    """One copied byte of the output becomes another: `verify --full` names its part."""
    file = weights(place, prefix)[-1]
    copied = [(number, each) for number, each in enumerate(parts(file), 1) if each[2] is None]
    number, (start, end, _) = copied[len(copied) // 2]
    key, wrong = f"{prefix}/{file['name']}", (start + end) // 2

    def pieces():
        at = 0
        for piece in objects.stream(place.s3, place.bucket, key):
            if at <= wrong < at + len(piece):
                piece = bytearray(piece)
                piece[wrong - at] ^= 1
            yield piece
            at += len(piece)

    objects.Upload(place.s3, place.bucket, key, pieces()).complete()
    ran = place.run("verify", place.url(prefix), "--full")
    assert ran.returncode == 1, f"verify --full of a damaged output ended with {ran.returncode}"
    told = error(ran)
    name = f"part {number} of {len(file['parts'])} "
    assert told["kind"] == "verify_failed" and file["name"] in told["message"] and name in told["message"], told
    return f"byte {wrong} changed: {told['message']}"
