"""Cluster DNS of a one-node test cluster: writes the names of headless services and their pods into a hosts file for dnsmasq.

names.py HOSTS PIDFILE: follows the Endpoints through kubectl and signals dnsmasq at each change. It stands in for CoreDNS.
"""

import json
import os
import signal
import subprocess
import sys

DOMAIN = "svc.cluster.local"


def events(stream):
    """JSON documents one after the other, as `kubectl get --watch` prints them."""
    decoder, text = json.JSONDecoder(), ""
    while chunk := os.read(stream.fileno(), 65536):
        text += chunk.decode()
        while text := text.lstrip():
            try:
                event, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            text = text[end:]
            yield event


def lines(endpoints):
    """One line for each address: the service's name, and the pod's own where it has a hostname."""
    meta = endpoints["metadata"]
    service = f"{meta['name']}.{meta['namespace']}.{DOMAIN}"
    for subset in endpoints.get("subsets") or []:
        for address in subset.get("addresses") or []:
            names = [service]
            if address.get("hostname"):
                names.append(f"{address['hostname']}.{service}")
            yield f"{address['ip']} {' '.join(names)}"


def main():
    hosts, pidfile = sys.argv[1:]
    known, written = {}, None
    command = ["kubectl", "get", "endpoints", "--all-namespaces", "--watch", "--output-watch-events", "--output=json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watch:
        for event in events(watch.stdout):
            thing = event["object"]
            if thing.get("kind") != "Endpoints":
                continue
            key = (thing["metadata"]["namespace"], thing["metadata"]["name"])
            known[key] = [] if event["type"] == "DELETED" else list(lines(thing))
            text = "".join(f"{line}\n" for key in sorted(known) for line in known[key])
            if text != written:
                written = text
                with open(hosts + ".new", "w") as file:
                    file.write(text)
                os.replace(hosts + ".new", hosts)
                with open(pidfile) as file:
                    os.kill(int(file.read()), signal.SIGHUP)


main()
