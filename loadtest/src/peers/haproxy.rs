//! HAProxy with a map of SHA-256.

use std::net::SocketAddr;
use std::path::Path;

use super::{Place, Program, keys};

/// The map holds hashes, not keys, as a careful operator would have it.
pub fn with_map(place: &Place<'_>, folder: &Path, listen: SocketAddr) -> anyhow::Result<Program> {
    // Its converter `hex` writes capitals.
    let list = keys::write(&folder.join("keys.map"), place.keys, |key| {
        format!("{} {}", key.hash().to_uppercase(), key.id)
    })?;
    let text = format!(
        r"global
    nbthread 1
    maxconn 8192
defaults
    mode http
    option http-keep-alive
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s
frontend clients
    bind {listen}
    http-request set-var(txn.key_id) req.hdr(X-API-Key),sha2(256),hex,map({})
    http-request deny deny_status 401 unless {{ var(txn.key_id) -m found }}
    http-request del-header X-API-Key
    http-request set-header X-Keygate-Key-Id %[var(txn.key_id)]
    http-request set-header X-Request-Id %[uuid]
    http-request set-header X-Forwarded-For %[src]
    default_backend api
backend api
    http-reuse always
    server api {}
",
        list.display(),
        place.api.address
    );
    let conf = folder.join("haproxy.cfg");
    std::fs::write(&conf, text)?;
    Ok(Program { command: vec!["haproxy".into(), "-db".into(), "-f".into(), conf.into()] })
}
