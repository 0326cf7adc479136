//! What requests and answers have in common: header lines, and the framing of bodies.

use std::io::{self, BufRead, BufReader};
use std::net::TcpStream;

/// Header or trailer lines, in their order, names as they were spelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of the only line of this name; `None` if there is none, panics if there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} stands {} times: {values:?}", values.len());
        values.first().copied()
    }

    /// The values of every line of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = |line: &&(String, String)| line.0.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Whether any value has `text` in it.
    pub fn mention(&self, text: &str) -> bool {
        self.0.iter().any(|(name, value)| name.contains(text) || value.contains(text))
    }

    fn says(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|each| each.trim().eq_ignore_ascii_case(token))
    }

    pub fn is_chunked(&self) -> bool {
        self.says("transfer-encoding", "chunked")
    }

    pub fn asks_to_close(&self) -> bool {
        self.says("connection", "close")
    }

    pub fn content_length(&self) -> Option<u64> {
        self.get("content-length").map(|text| text.parse().expect("a length is a number"))
    }
}

/// The reading half of a connection.
pub type Reader = BufReader<TcpStream>;

/// A line without its end; `None` at the end of the stream.
pub fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with(b"\r\n") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a line without its end"));
    }
    line.truncate(line.len() - 2);
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Header lines up to the empty one.
pub fn read_headers(reader: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::default();
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.0.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Reads a body piece by piece into `sink`, and returns its trailers.
pub fn read_body(
    reader: &mut impl BufRead,
    framing: Framing,
    mut sink: impl FnMut(&[u8]),
) -> io::Result<Headers> {
    const MOST: usize = 256 * 1024;
    let size = match framing {
        Framing::Length(length) => usize::try_from(length).unwrap_or(MOST).min(MOST),
        Framing::Chunked | Framing::UntilClose => MOST,
    };
    let mut buffer = vec![0; size];
    match framing {
        Framing::Length(length) => read_exactly(reader, length, &mut buffer, &mut sink)?,
        Framing::UntilClose => loop {
            match reader.read(&mut buffer)? {
                0 => break,
                read => sink(&buffer[..read]),
            }
        },
        Framing::Chunked => loop {
            let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                return read_headers(reader);
            }
            read_exactly(reader, size, &mut buffer, &mut sink)?;
            if read_line(reader)?.as_deref() != Some("") {
                return Err(io::ErrorKind::InvalidData.into());
            }
        },
    }
    Ok(Headers::default())
}

fn read_exactly(
    reader: &mut impl BufRead,
    length: u64,
    buffer: &mut [u8],
    sink: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match reader.read(&mut buffer[..wanted])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                sink(&buffer[..read]);
                left -= read as u64;
            }
        }
    }
    Ok(())
}

/// One chunk of a chunked body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}
