//! A proxy with Pingora that checks keys: what keygate is measured beside.
//!
//! `keygate-peer-pingora LISTEN UPSTREAM KEYS`: two addresses, and a file with a key and its name on each line. Keys are kept
//! by their SHA-256. A request with one of them goes upstream without it and with its name; others get 401.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

struct Proxy {
    upstream: String,
    keys: HashMap<Hash, Arc<str>>,
    requests: AtomicU64,
}

/// What is known of a request: the name of its key.
type Known = Option<Arc<str>>;

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Known;

    fn new_ctx(&self) -> Known {
        None
    }

    async fn request_filter(&self, session: &mut Session, known: &mut Known) -> Result<bool> {
        let key = session.req_header().headers.get("x-api-key");
        *known = key.and_then(|key| self.keys.get(&hash(key.as_bytes()))).cloned();
        if known.is_none() {
            session.respond_error(401).await?;
        }
        Ok(known.is_none())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Known) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        known: &mut Known,
    ) -> Result<()> {
        let name = known.as_deref().ok_or_else(|| Error::new(ErrorType::HTTPStatus(401)))?;
        request.remove_header("x-api-key");
        request.insert_header("x-keygate-key-id", name)?;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        request.insert_header("x-request-id", format!("{number:032x}"))?;
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        Ok(())
    }
}

fn hash(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, keys] = arguments.as_slice() else {
        panic!("usage: keygate-peer-pingora LISTEN UPSTREAM KEYS");
    };
    let keys = std::fs::read_to_string(keys).expect("the file with the keys can be read");
    let keys = keys.lines().filter_map(|line| line.split_once(' '));
    let keys = keys.map(|(key, name)| (hash(key.as_bytes()), Arc::from(name))).collect();
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 4096, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = Proxy { upstream: upstream.clone(), keys, requests: AtomicU64::new(0) };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
