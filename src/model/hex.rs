//! Lowercase hex digits, as keys, hashes, ids and traces are written.

/// The digits, in order.
pub(crate) const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The two digits of a byte.
pub(crate) const fn pair(byte: u8) -> [u8; 2] {
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}
