//! Keys that keygate did not make, and what may never be seen of any key.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// A well-formed Live key that nobody knows; the same `seed` gives the same key.
pub fn foreign_live(seed: &str) -> String {
    format!("sk_live_{}", sha256_hex(seed.as_bytes()))
}

/// A well-formed Sandbox key that nobody knows.
pub fn foreign_sandbox(seed: &str) -> String {
    format!("sk_test_{}", sha256_hex(seed.as_bytes()))
}

/// The key with its last character changed: its check is wrong.
pub fn mistyped(key: &str) -> String {
    let (head, last) = key.split_at(key.len() - 1);
    format!("{head}{}", if last == "0" { '1' } else { '0' })
}

/// SHA-256 in 64 lowercase hex characters.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// Every spelling of a key that would give it away: itself, the secret part of it, the same in base64 at each
/// alignment and in both alphabets, percent-encoded, in upper case and as bytes in hex.
pub fn traces_of(key: &str) -> Vec<String> {
    let secret = &key[key.len() - 52..];
    let mut traces = vec![
        key.to_owned(),
        secret.to_owned(),
        secret.to_uppercase(),
        key.replace('_', "%5F"),
        key.replace('_', "%5f"),
        key.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        key.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        hex(secret.as_bytes()),
        hex(secret.as_bytes()).to_uppercase(),
    ];
    for skipped in 0..3 {
        // The last three characters of a base64 text depend on what stands behind it.
        for encoded in
            [STANDARD_NO_PAD.encode(&secret[skipped..]), URL_SAFE_NO_PAD.encode(&secret[skipped..])]
        {
            traces.push(encoded[..encoded.len() - 3].to_owned());
        }
    }
    traces
}

/// The first trace of `key` in `haystack`, if there is one.
pub fn trace_in(haystack: &[u8], key: &str) -> Option<String> {
    // One pass for all traces, which looks twice only where one may begin: logs are large, and tests unoptimised.
    let traces = traces_of(key);
    let mut begins = vec![false; 1 << 16];
    for trace in &traces {
        begins[usize::from(trace.as_bytes()[0]) << 8 | usize::from(trace.as_bytes()[1])] = true;
    }
    let mut last = 0;
    for (at, &byte) in haystack.iter().enumerate() {
        let pair = last << 8 | usize::from(byte);
        last = usize::from(byte);
        if begins[pair] && at > 0 {
            let rest = &haystack[at - 1..];
            if let Some(trace) = traces.iter().find(|trace| rest.starts_with(trace.as_bytes())) {
                return Some(trace.clone());
            }
        }
    }
    None
}

#[test]
fn a_key_leaves_traces_wherever_it_stands() {
    let key = foreign_live("traces");
    for padding in ["", "a", "ab"] {
        for seen in [
            key.clone(),
            STANDARD.encode(format!("{padding}{key}:")),
            key.to_uppercase(),
            hex(key.as_bytes()),
        ] {
            assert!(trace_in(format!("x{padding}{seen}y").as_bytes(), &key).is_some(), "{seen}");
        }
    }
    assert_eq!(trace_in(b"sk_live_0123\xe2\x80\xa6a1b2", &key), None);
}
