#!/usr/bin/env python3
"""CPU per request of keygate beside nginx, in one run.

The gateway is pinned to one core with one worker; upstream (an nginx that answers 200) and load generator (wrk) share
the other. Every candidate gets the same load in turn, several rounds; what counts is the ratio of the medians.

    cargo build --release && loadtest/cpu_per_request.py [--rounds 5] [--seconds 4] [--connections 32]

Needs nginx and wrk. Everything is on 127.0.0.1 and ends with the script.
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
GATEWAY_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port} after 10 s")


def start(command, core, **options):
    return subprocess.Popen(["taskset", "-c", core, *command], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, **options)


def nginx(folder, name, port, http, core):
    """An nginx of one process, in the foreground, with its files in its own folder."""
    place = folder / name
    place.mkdir()
    conf = place / "nginx.conf"
    conf.write_text(f"""
        daemon off; master_process off; worker_processes 1; error_log {place}/error.log; pid {place}/pid;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 75s;
            client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
            uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
            {http}
        }}""")
    process = start(["nginx", "-c", str(conf), "-p", str(place)], core)
    wait_for_port(port)
    return process


def upstream(folder):
    port = free_port()
    body = json.dumps({"data": {"id": "wlt_1", "balance": 5000000, "currency": "NGN"}})
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{body}'; }} }}"
    return port, nginx(folder, "upstream", port, server, LOAD_CORE)


def nginx_plain(folder, upstream_port):
    port = free_port()
    http = f"""
        upstream api {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 1000000000; }}
        server {{ listen 127.0.0.1:{port}; location / {{
            proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}"""
    return port, nginx(folder, "plain", port, http, GATEWAY_CORE)


def nginx_map(folder, upstream_port, key):
    """The cheapest key check that nginx has: a hash map in its configuration, keys in the clear."""
    port = free_port()
    others = "\n".join(f'"sk_live_{hashlib.sha256(str(n).encode()).hexdigest()}" "key_{n}";' for n in range(1000))
    http = f"""
        map_hash_bucket_size 128; map_hash_max_size 8192;
        map $http_x_api_key $key_id {{ default ""; "{key}" "key_ours"; {others} }}
        upstream api {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 1000000000; }}
        server {{ listen 127.0.0.1:{port}; location / {{
            if ($key_id = "") {{ return 401; }}
            proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header X-API-Key ""; proxy_set_header X-Keygate-Key-Id $key_id;
            proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr; }} }}"""
    return port, nginx(folder, "map", port, http, GATEWAY_CORE)


def keygate(folder, upstream_port):
    port, admin = free_port(), free_port()
    settings = {
        "KEYGATE_LISTEN": f"127.0.0.1:{port}", "KEYGATE_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "KEYGATE_ADMIN_TOKEN": "loadtest-admin-token", "KEYGATE_STORE": f"sqlite:{folder}/keygate.sqlite",
        "KEYGATE_UPSTREAM_LIVE": f"http://127.0.0.1:{upstream_port}", "KEYGATE_WORKERS": "1",
        "KEYGATE_UPSTREAM__IDLE_TIMEOUT_MS": "60000",
    }
    process = start([str(ROOT / "target/release/keygate"), "serve"], GATEWAY_CORE, env={**os.environ, **settings})
    wait_for_port(port)
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", admin)
        connection.request("POST", "/v1/keys", json.dumps({"label": "load", "environment": "live"}),
                           {"Authorization": "Bearer loadtest-admin-token", "Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status == 201:
            return port, process, json.load(answer)["key"]
        time.sleep(0.05)
    sys.exit("keygate made no key")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def load(port, key, seconds, connections):
    """Requests that were answered 2xx; anything else ends the run, for it would be cheap."""
    answer = subprocess.run(
        ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"X-API-Key: {key}",
         f"http://127.0.0.1:{port}/v1/wallets/wlt_1"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in answer or "Socket errors" in answer:
        sys.exit(f"the run is void:\n{answer}")
    return int(re.search(r"(\d+) requests in", answer).group(1))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--connections", type=int, default=32)
    options = options.parse_args()
    for program in ("nginx", "wrk", "taskset"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed")
    running = []
    with tempfile.TemporaryDirectory(prefix="keygate-loadtest-") as folder:
        folder = pathlib.Path(folder)
        try:
            upstream_port, process = upstream(folder)
            running.append(process)
            port, process, key = keygate(folder, upstream_port)
            running.append(process)
            candidates = {"keygate": (port, process)}
            for name, made in (("nginx, no check", nginx_plain(folder, upstream_port)),
                               ("nginx, static map", nginx_map(folder, upstream_port, key))):
                running.append(made[1])
                candidates[name] = made
            measured = {name: [] for name in candidates}
            for port, _ in candidates.values():
                load(port, key, 1, options.connections)
            for turn in range(options.rounds):
                for name, (port, process) in candidates.items():
                    print(f"\rround {turn + 1} of {options.rounds}: {name:20}", end="", file=sys.stderr, flush=True)
                    before = cpu_seconds(process.pid)
                    requests = load(port, key, options.seconds, options.connections)
                    after = cpu_seconds(process.pid)
                    measured[name].append([(b - a) / requests * 1e6 for a, b in zip(before, after)]
                                          + [requests / options.seconds])
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(timeout=40)
    print(file=sys.stderr)
    yardstick = statistics.median(user + system for user, system, _ in measured["nginx, static map"])
    print(f"{'':20} {'user µs':>8} {'system µs':>10} {'CPU µs':>8} {'ratio':>6} {'requests/s':>11}")
    for name, rounds in measured.items():
        user, system, rate = (statistics.median(column) for column in zip(*rounds))
        total = statistics.median(u + s for u, s, _ in rounds)
        print(f"{name:20} {user:8.2f} {system:10.2f} {total:8.2f} {total / yardstick:6.2f} {rate:11.0f}")


if __name__ == "__main__":
    main()
