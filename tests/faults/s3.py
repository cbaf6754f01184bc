"""The few calls of an S3 server's administration that the campaigns need, without a client library."""

import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree


class S3:
    """Signs with AWS Signature Version 4 (path style)."""

    def __init__(self, endpoint: str, key: str, secret: str, region: str = "us-east-1") -> None:
        self.endpoint, self.key, self.secret, self.region = endpoint.rstrip("/"), key, secret, region

    def request(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b"") -> bytes:
        with self.open(method, path, query, body) as answer:
            return answer.read()

    def open(self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b"") -> http.client.HTTPResponse:
        """The answer, whose body is read by the caller."""
        now = time.gmtime()
        stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
        host = urllib.parse.urlsplit(self.endpoint).netloc
        digest = hashlib.sha256(body).hexdigest()
        path = urllib.parse.quote(path)
        encode = lambda text: urllib.parse.quote(text, safe="-_.~")
        line = "&".join(f"{encode(k)}={encode(v)}" for k, v in sorted((query or {}).items()))
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(headers)
        canonical = "\n".join([method, path, line, *(f"{k}:{v}" for k, v in headers.items()), "", names, digest])
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        url = f"{self.endpoint}{path}" + (f"?{line}" if line else "")
        request = urllib.request.Request(url, data=body if method in ("PUT", "POST") else None, method=method, headers=headers)
        return urllib.request.urlopen(request, timeout=60)

    def make_bucket(self, bucket: str) -> None:
        try:
            self.request("PUT", f"/{bucket}")
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.request("PUT", f"/{bucket}/{key}", body=body)

    def get(self, bucket: str, key: str) -> bytes:
        return self.request("GET", f"/{bucket}/{key}")

    def keys(self, bucket: str, prefix: str) -> list[str]:
        keys, more = [], None
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": more} if more else {})
            root = ElementTree.fromstring(self.request("GET", f"/{bucket}", query))
            space = root.tag.partition("}")[0] + "}" if "}" in root.tag else ""
            keys += [key.text or "" for key in root.iter(f"{space}Key")]
            token = root.find(f"{space}NextContinuationToken")
            if token is None or not token.text:
                return keys
            more = token.text

    def uploads(self, bucket: str, prefix: str) -> list[str]:
        """Keys with multipart uploads that are neither completed nor aborted."""
        root = ElementTree.fromstring(self.request("GET", f"/{bucket}", {"uploads": "", "prefix": prefix}))
        space = root.tag.partition("}")[0] + "}" if "}" in root.tag else ""
        return [key.text or "" for key in root.iter(f"{space}Key")]

    def delete(self, bucket: str, key: str) -> None:
        self.request("DELETE", f"/{bucket}/{key}")
