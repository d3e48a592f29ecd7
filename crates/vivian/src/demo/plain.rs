//! Makes a console's bytes plain text: firmware clears the screen and moves the cursor, which would wipe the story off
//! a terminal.

/// Takes escape sequences out of a stream of bytes, however it is cut.
#[derive(Debug, Default)]
pub struct PlainText {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence (ESC [ ...), which ends with a letter or one of `@`, `~` and the like.
    Sequence,
}

impl PlainText {
    /// What of these bytes is text.
    pub fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (_, 0x1b) => State::Escape,
                (State::Escape, b'[') => State::Sequence,
                (State::Escape, _) => State::Text, // a sequence of two bytes
                (State::Sequence, 0x40..=0x7e) => State::Text,
                (State::Sequence, _) => State::Sequence,
                (State::Text, b'\n' | b'\t' | b' '..) => {
                    text.push(byte);
                    State::Text
                }
                (State::Text, _) => State::Text,
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clears_a_screen_is_taken_out_however_the_stream_is_cut() {
        let said = b"\x1bc\x1b[?7l\x1b[2JSeaBIOS\r\n\x1b[0;1miPXE\x1b[0m -- \xc3\xa9\r\n";
        for step in 1..said.len() {
            let mut plain = PlainText::default();
            let text: Vec<u8> = said.chunks(step).flat_map(|piece| plain.filter(piece)).collect();
            assert_eq!(String::from_utf8_lossy(&text), "SeaBIOS\niPXE -- \u{e9}\n");
        }
    }
}
