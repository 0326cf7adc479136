//! Values of headers, cut from one piece of memory after another.

use bytes::{BufMut, BytesMut};
use http::HeaderValue;

use crate::model::hex;

/// Enough for the values of some tens of requests.
const PIECE: usize = 4 * 1024;

/// Makes header values. One for a worker: what it makes shares memory, and costs no allocation of its own.
#[derive(Default)]
pub struct Values {
    piece: BytesMut,
}

impl Values {
    /// The value that `write` writes: at most 256 bytes are expected.
    ///
    /// # Panics
    /// If it may not stand in a header.
    pub(super) fn make(&mut self, write: impl FnOnce(&mut BytesMut)) -> HeaderValue {
        if self.piece.capacity() < 256 {
            self.piece.reserve(PIECE);
        }
        write(&mut self.piece);
        let value = HeaderValue::from_maybe_shared(self.piece.split().freeze());
        value.expect("what keygate writes into headers is visible ASCII")
    }
}

/// Writes `bytes` as lowercase hex digits.
pub(super) fn put_hex<const BYTES: usize>(buffer: &mut BytesMut, bytes: [u8; BYTES]) {
    buffer.put_slice(bytes.map(hex::pair).as_flattened());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_mind_each_other() {
        let mut values = Values::default();
        let made: Vec<_> =
            (0..1_000u128).map(|n| values.make(|piece| put_hex(piece, n.to_be_bytes()))).collect();
        for (n, value) in made.iter().enumerate() {
            assert_eq!(value.to_str().unwrap(), format!("{n:032x}"));
        }
        assert_eq!(values.make(|piece| put_hex(piece, [0x0a, 0xbc])), "0abc");
    }
}
