//! The keys that all peers know.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::rig::redis::Redis;

/// Keys that are written in one go.
const BATCH: usize = 10_000;

/// A key, spelled as keygate's are, and as long.
pub struct Key {
    pub text: String,
    /// Its public name.
    pub id: String,
}

impl Key {
    /// The same keys in each run.
    pub fn some(count: usize) -> Vec<Key> {
        let key = |number: usize| Key {
            text: format!("sk_live_{}", hex(&Sha256::digest(number.to_string()))),
            id: format!("key_{number}"),
        };
        (0..count).map(key).collect()
    }

    /// SHA-256 in lower-case hex.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(&self.text))
    }
}

/// A file with a line for each key.
pub fn write(path: &Path, keys: &[Key], line: impl Fn(&Key) -> String) -> anyhow::Result<PathBuf> {
    let text: String = keys.iter().map(|key| line(key) + "\n").collect();
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.to_owned())
}

/// Has keygate take them over, by their SHA-256.
pub fn import(admin: SocketAddr, authorization: &str, keys: &[Key]) -> anyhow::Result<()> {
    for batch in keys.chunks(BATCH) {
        let list: Vec<_> = batch
            .iter()
            .map(|key| json!({"sha256": key.hash(), "label": key.id, "environment": "live"}))
            .collect();
        let body = json!({ "keys": list }).to_string();
        let request = format!(
            "POST /v1/keys/import HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(admin, request.as_bytes())?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "importing keys: {answer}");
    }
    Ok(())
}

/// Writes `key:HASH` with the name of the key into a Redis.
pub fn store(redis: &Redis, keys: &[Key]) -> anyhow::Result<()> {
    for batch in keys.chunks(BATCH) {
        let mut request = String::new();
        for key in batch {
            let name = format!("key:{}", key.hash());
            let (name_length, id_length) = (name.len(), key.id.len());
            write!(request, "*3\r\n$3\r\nSET\r\n${name_length}\r\n{name}\r\n${id_length}\r\n{}\r\n", key.id)?;
        }
        request += "*1\r\n$4\r\nQUIT\r\n";
        let answer = exchange(redis.address(), request.as_bytes())?;
        let taken = answer.matches("+OK").count();
        ensure!(taken > batch.len(), "Redis took {taken} of {} keys", batch.len());
    }
    Ok(())
}

/// Sends it all and reads until the other side hangs up.
fn exchange(address: SocketAddr, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a text cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_as_keygate_spells_them() {
        let keys = Key::some(2);
        assert_eq!(keys[0].text.len(), "sk_live_".len() + 64);
        assert_ne!(keys[0].text, keys[1].text);
        assert_eq!(keys[0].text, Key::some(1)[0].text);
    }

    #[test]
    fn a_hash_is_sha_256_of_the_whole_key() {
        let key = Key { text: "abc".to_owned(), id: String::new() };
        assert_eq!(key.hash(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
