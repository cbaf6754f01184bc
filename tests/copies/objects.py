"""Large objects of an S3 server: put in parts, read as streams, none of them on a disk or whole in memory."""

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator

from s3 import S3

PIECE = 64 << 20


class Upload:
    """An object that is put in parts and appears when it is completed."""

    def __init__(self, s3: S3, bucket: str, key: str, pieces: Iterable[bytes | memoryview]) -> None:
        self.s3, self.path = s3, f"/{bucket}/{key}"
        self.id = _texts(s3.request("POST", self.path, {"uploads": ""}), "UploadId")[0]
        for number, part in enumerate(_regrouped(pieces), 1):
            s3.request("PUT", self.path, {"partNumber": str(number), "uploadId": self.id}, part)

    def complete(self) -> None:
        listed = self.s3.request("GET", self.path, {"uploadId": self.id, "max-parts": "1000"})
        parts = zip(_texts(listed, "PartNumber"), _texts(listed, "ETag"), strict=True)
        each = (f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in parts)
        text = f"<CompleteMultipartUpload>{''.join(each)}</CompleteMultipartUpload>"
        self.s3.request("POST", self.path, {"uploadId": self.id}, text.encode())


def stream(s3: S3, bucket: str, key: str) -> Iterator[bytes]:
    with s3.open("GET", f"/{bucket}/{key}") as answer:
        while piece := answer.read(1 << 20):
            yield piece


def digest(s3: S3, bucket: str, key: str) -> str:
    """SHA-256 of the bytes that the server gives back."""
    found = hashlib.sha256()
    for piece in stream(s3, bucket, key):
        found.update(piece)
    return found.hexdigest()


def _regrouped(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    part = bytearray()
    for piece in pieces:
        at = 0
        while at < len(piece):
            taken = piece[at : at + PIECE - len(part)]
            part += taken
            at += len(taken)
            if len(part) == PIECE:
                yield bytes(part)
                part.clear()
    if part:
        yield bytes(part)


def _texts(document: bytes, tag: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(document).iter() if each.tag.rpartition("}")[2] == tag]
