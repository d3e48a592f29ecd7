//! Console frames: they do not depend on how the stream is cut, and what was read can be written and read again.
#![no_main]

use farmgate_fuzz::pieces;
use farmgate_protocol::console::{FrameReader, MAX_FRAME, Message};
use libfuzzer_sys::fuzz_target;

/// Everything up to the end or the first error, and whether there was one.
fn read(pieces: &[&[u8]]) -> (Vec<Message>, bool) {
    let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => seen.push(message),
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
    }
    (seen, false)
}

fuzz_target!(|data: &[u8]| {
    let (stream, pieces) = pieces(data);
    let whole = read(&[stream]);
    assert_eq!(read(&pieces), whole);
    for message in whole.0 {
        let frame = message.encode();
        // Escapes may make it longer than what was read; then the reader's answer is another one.
        if frame.len() <= MAX_FRAME {
            let (again, broken) = read(&[&frame]);
            assert!(!broken && again.len() == 1, "{message:?} became {again:?}");
            // A fraction in the metadata may lose its last digit.
            assert_eq!((again[0].date, again[0].encode().is_empty()), (message.date, false));
        }
    }
});
