#!/usr/bin/env bash
# Installs what keygate is measured beside, and what measures it: as root on Debian. Elsewhere it names what is missing.
set -euo pipefail

# A file that tells whether it is there, or a program on the path, and the Debian package that has it.
NEEDS="
nginx nginx
haproxy haproxy
redis-server redis-server
wrk wrk
h2load nghttp2-client
strace strace
cmake cmake
/usr/lib/nginx/modules/ngx_http_lua_module.so libnginx-mod-http-lua
/usr/share/lua/5.1/nginx/redis.lua lua-nginx-redis
"

main() {
    local missing=() need package
    while read -r need package; do
        [[ -z $need || -e $need ]] || command -v "$need" >/dev/null || missing+=("$package")
    done <<<"$NEEDS"
    if ((${#missing[@]} == 0)); then
        echo "all of it is here"
        return
    fi
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]}. On Debian: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -q install -y --no-install-recommends "${missing[@]}"
}

# Debian starts a service as its package is installed. The load test starts its own, on ports of its own.
SERVICE_POLICY=/usr/sbin/policy-rc.d
forbid_services() {
    [[ -e $SERVICE_POLICY ]] && return
    trap 'rm -f $SERVICE_POLICY' EXIT
    printf '#!/bin/sh\nexit 101\n' >$SERVICE_POLICY
    chmod +x $SERVICE_POLICY
}

main
