"""Makes a container in Azurite at PORT, signed with KEY. The store's client library has no call for that."""

import base64
import hashlib
import hmac
import os
import sys
import urllib.request
from email.utils import formatdate

name, port, account = sys.argv[1], os.environ["PORT"], "devstoreaccount1"
date = formatdate(usegmt=True)
headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
canonical = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
to_sign = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{canonical}/{account}/{account}/{name}\nrestype:container"
digest = hmac.new(base64.b64decode(os.environ["KEY"]), to_sign.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
headers["Content-Length"] = "0"
url = f"http://127.0.0.1:{port}/{account}/{name}?restype=container"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(urllib.request.Request(url, method="PUT", headers=headers), timeout=5)
