"""A bucket of the server that is tested, and the program that merges in it."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import objects
from checkpoint import Checkpoint
from s3 import S3


class Place:
    def __init__(self, binary: Path, server: tuple[str, str, str], bucket: str, environment: dict[str, str]) -> None:
        self.binary, self.bucket, self.environment = binary, bucket, environment
        self.s3 = S3(*server)
        address = urllib.parse.urlsplit(self.s3.endpoint)
        self.target = (address.hostname or "", address.port or 80)

    def url(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}"

    def upload(self, checkpoint: Checkpoint, prefix: str) -> str:
        for name, text in checkpoint.sidecars().items():
            self.s3.put(self.bucket, f"{prefix}/{name}", text)
        for file in checkpoint.files:
            objects.Upload(self.s3, self.bucket, f"{prefix}/{file.name}", file.bytes()).complete()
        return self.url(prefix)

    def upload_folder(self, folder: Path, prefix: str) -> str:
        for file in sorted(folder.iterdir()):
            self.s3.put(self.bucket, f"{prefix}/{file.name}", file.read_bytes())
        return self.url(prefix)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.binary), *arguments, "--quiet", "--format", "json", "--error-format", "json"]

    def through(self, endpoint: str | None) -> dict[str, str]:
        """The environment of a program that reaches the server by another address."""
        return self.environment | ({"AWS_ENDPOINT": endpoint} if endpoint else {})

    def run(self, *arguments: str, endpoint: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.through(endpoint))

    def result(self, *arguments: str, endpoint: str | None = None) -> dict:
        """The JSON of a command that must succeed."""
        ran = self.run(*arguments, endpoint=endpoint)
        assert ran.returncode == 0, f"{' '.join(arguments)} ended with {ran.returncode}: {ran.stderr.strip()}"
        return json.loads(ran.stdout) if ran.stdout.strip() else {}

    def text(self, *arguments: str) -> str:
        """What a command that must succeed prints for people."""
        return subprocess.run([str(self.binary), *arguments], check=True, stdout=subprocess.PIPE, text=True, env=self.environment).stdout

    def manifest(self, prefix: str) -> dict:
        return json.loads(self.s3.get(self.bucket, f"{prefix}/shardfuse.json"))

    def digests(self, prefix: str) -> dict[str, str]:
        """SHA-256 of each weight file, as the server gives it back."""
        keys = self.s3.keys(self.bucket, f"{prefix}/")
        weights = [key for key in keys if key.endswith(".safetensors")]
        return {key.rpartition("/")[2]: objects.digest(self.s3, self.bucket, key) for key in weights}

    def nothing_is_left(self, prefix: str) -> None:
        """A finished merge leaves neither state nor uploads."""
        state = [key for key in self.s3.keys(self.bucket, f"{prefix}/") if "/.shardfuse/" in key]
        assert not state, f"state is left: {state[:3]}"
        uploads = self.s3.uploads(self.bucket, f"{prefix}/")
        assert not uploads, f"uploads are left: {uploads[:3]}"

    def remove(self, prefix: str) -> None:
        """Deletes what is below a prefix, and has the server give the room back."""
        for key in self.s3.keys(self.bucket, f"{prefix}/"):
            self.s3.delete(self.bucket, key)
        # The bytes are deleted some seconds after their names.
        time.sleep(5)
        master = f"http://{self.target[0]}:{self.target[1] + 1}"
        with urllib.request.urlopen(f"{master}/vol/vacuum?garbageThreshold=0.001", timeout=300) as answer:
            answer.read()


def error(ran: subprocess.CompletedProcess) -> dict:
    """What a command that failed says of it."""
    return json.loads(ran.stderr.strip().splitlines()[-1])["error"]
