//! Small writes in one piece.
//!
//! A head and a short body are two pieces. To copy them together costs less than what the kernel takes for a list of pieces;
//! what is large is not copied.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Up to so many bytes are copied together.
const SMALL: usize = 4 * 1024;

thread_local! {
    static PIECE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SMALL));
}

/// Writes the pieces, or the beginning of them.
pub(super) fn poll_write(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [only] = pieces {
        return stream.poll_write(cx, only);
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
        return stream.poll_write_vectored(cx, pieces);
    }
    PIECE.with_borrow_mut(|together| {
        together.clear();
        pieces.iter().for_each(|piece| together.extend_from_slice(piece));
        stream.poll_write(cx, together)
    })
}
