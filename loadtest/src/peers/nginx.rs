//! nginx: bare, with its cheapest key check, and with Lua and Redis as API gateways that are built on it do it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use super::{Place, Program, keys};

const LUA_MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];
const LUA_REDIS: &str = "/usr/share/lua/5.1/nginx/redis.lua";

/// What the Lua peer needs besides nginx.
pub const LUA_NEEDS: [&str; 3] = [LUA_MODULES[0], LUA_MODULES[1], LUA_REDIS];

/// The headers that say who asks, and the key that goes no further.
const IDENTITY: &str = r#"
                proxy_set_header X-API-Key ""; proxy_set_header X-Keygate-Key-Id $key_id;
                proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr;"#;

/// `proxy_pass` and nothing else.
pub fn plain(place: &Place<'_>, folder: &Path, listen: SocketAddr) -> anyhow::Result<Program> {
    nginx(place, folder, listen, "", "", "")
}

/// Keys in the clear, in a hash map of the configuration.
pub fn map(place: &Place<'_>, folder: &Path, listen: SocketAddr) -> anyhow::Result<Program> {
    let list =
        keys::write(&folder.join("keys.map"), place.keys, |key| format!("\"{}\" \"{}\";", key.text, key.id))?;
    let size = (place.keys.len() * 8).max(8192);
    let known = format!(
        r#"map_hash_bucket_size 128; map_hash_max_size {size};
            map $http_x_api_key $key_id {{ default ""; include {}; }}"#,
        list.display()
    );
    let check = format!(r#"if ($key_id = "") {{ return 401; }}{IDENTITY}"#);
    nginx(place, folder, listen, "", &known, &check)
}

/// SHA-256 of the key, looked up in a dictionary that the workers share, and in Redis if it is not there.
pub fn lua(place: &Place<'_>, folder: &Path, listen: SocketAddr) -> anyhow::Result<Program> {
    let modules = LUA_MODULES.iter().fold(String::new(), |mut text, module| {
        let _ = write!(text, "load_module {module}; "); // writing to a text cannot fail
        text
    });
    let redis = place.lua_redis.context("it has no Redis")?.address();
    let shared = format!(
        r#"lua_package_path "/usr/share/lua/5.1/?.lua;;"; lua_shared_dict keys 64m;
            init_by_lua_block {{
                local ffi = require "ffi"
                ffi.cdef "unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);"
                local digest = ffi.new("unsigned char[32]")
                function sha256(text)
                    ffi.C.SHA256(text, #text, digest)
                    return ffi.string(digest, 32)
                end
                redis = require "nginx.redis"
                known = ngx.shared.keys
                function look_up(hash)
                    local store = redis:new()
                    store:set_timeout(1000)
                    if not store:connect("{}", {}) then return ngx.exit(503) end
                    local hex = hash:gsub(".", function(c) return string.format("%02x", c:byte()) end)
                    local id, failure = store:get("key:" .. hex)
                    if not id then return ngx.exit(503) end
                    store:set_keepalive(60000, 64)
                    if id == ngx.null then return ngx.exit(401) end
                    known:set(hash, id, 300)
                    return id
                end
            }}"#,
        redis.ip(),
        redis.port()
    );
    let check = format!(
        r#"set $key_id "";
                access_by_lua_block {{
                    local key = ngx.var.http_x_api_key
                    if not key then return ngx.exit(401) end
                    local hash = sha256(key)
                    ngx.var.key_id = known:get(hash) or look_up(hash)
                }}{IDENTITY}"#
    );
    nginx(place, folder, listen, &modules, &shared, &check)
}

/// One process, in the foreground, with its files in its own folder.
fn nginx(
    place: &Place<'_>,
    folder: &Path,
    listen: SocketAddr,
    modules: &str,
    shared: &str,
    check: &str,
) -> anyhow::Result<Program> {
    let (here, upstream) = (folder.display(), place.api.address);
    let text = format!(
        r#"{modules}
        daemon off; master_process off; worker_processes 1; error_log {here}/error.log; pid {here}/pid;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; client_max_body_size 0;
            client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
            uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
            {shared}
            upstream api {{ server {upstream}; keepalive 2048; keepalive_requests 1000000000; }}
            server {{
                listen {listen};
                location / {{
                proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
                {check}
                }}
            }}
        }}
"#
    );
    let conf = folder.join("nginx.conf");
    std::fs::write(&conf, text)?;
    Ok(Program { command: vec!["nginx".into(), "-c".into(), conf.into(), "-p".into(), folder.into()] })
}
