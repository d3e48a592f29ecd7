//! How the bytes of a fuzzer become the pieces in which a stream arrives.
//!
//! The targets say what each parser promises; this crate owns only the cutting that they share.

/// Cuts `data` into pieces. Its first byte tells how many lengths follow (the low 4 bits), then come the lengths, one
/// byte each, then the stream; what the lengths leave over is the last piece. An empty piece is a piece.
pub fn pieces(data: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some((&count, rest)) = data.split_first() else { return (data, vec![data]) };
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(count & 15)));
    let mut left = stream;
    let mut pieces = Vec::with_capacity(lengths.len() + 1);
    for length in lengths {
        let (piece, tail) = left.split_at(left.len().min(usize::from(*length)));
        pieces.push(piece);
        left = tail;
    }
    pieces.push(left);
    (stream, pieces)
}
