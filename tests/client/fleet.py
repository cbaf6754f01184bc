"""A coordinator and a worker on this machine, over mutual TLS."""

import contextlib
import pathlib
import socket
import subprocess
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds that a condition may take on a busy machine


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Fleet:
    def __init__(self, binary, work):
        self.binary, self.work = binary, work
        self.tls, self.port = work / "tls", free_port()
        self.allow = [f"--allow={ROOT / 'examples'}", f"--allow={work / 'outputs'}"]
        (work / "outputs").mkdir()
        self.run("certs", "--out", self.tls)

    def run(self, *args):
        """A command that must succeed; its stdout."""
        done = subprocess.run([self.binary, *map(str, args)], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def flags(self, role):
        return [f"--tls-ca={self.tls}/ca.pem", f"--tls-cert={self.tls}/{role}.pem", f"--tls-key={self.tls}/{role}.key"]

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    @contextlib.contextmanager
    def process(self, name, *args):
        """A process that is asked to end when the block does, and must do so by itself."""
        log = (self.work / f"{name}.log").open("w")
        process = subprocess.Popen([self.binary, *map(str, args)], stdout=log, stderr=log)
        try:
            yield process
        except BaseException:
            print(f"--- {name}\n{(self.work / f'{name}.log').read_text()[-4000:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def coordinator(self):
        state = self.work / "state"
        return self.process(
            "coordinator", "coordinator", "--listen", f"127.0.0.1:{self.port}", "--state", state.as_uri(), *self.allow,
            *self.flags("coordinator"),
        )

    def worker(self):
        return self.process(
            "worker", "worker", "--coordinator", self.url, "--memory", "64MiB", *self.allow, *self.flags("worker")
        )

    def channel(self, role="submitter"):
        read = lambda name: (self.tls / name).read_bytes()
        credentials = grpc.ssl_channel_credentials(read("ca.pem"), read(f"{role}.key"), read(f"{role}.pem"))
        return grpc.secure_channel(f"localhost:{self.port}", credentials)

    def wait_until_serving(self, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError as e:
                if e.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, "the coordinator does not serve"
            time.sleep(0.1)
