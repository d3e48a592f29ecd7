//! What a console announces: the same, however its bytes are cut, and with places that lie within them.
#![no_main]

use farmgate_fuzz::pieces;
use farmgate_salad::{Announcement, MachineId, Scanner};
use libfuzzer_sys::fuzz_target;

/// Announcements with their places in the whole stream.
fn scan(pieces: &[&[u8]]) -> Vec<(usize, Option<Vec<u8>>)> {
    let (mut scanner, mut before, mut found) = (Scanner::default(), 0, Vec::new());
    for piece in pieces {
        for announcement in scanner.push(piece) {
            let (at, id) = match announcement {
                Announcement::Machine { id, at } => (at, Some(id)),
                Announcement::Ping { at } => (at, None),
            };
            assert!(at <= piece.len());
            found.push((before + at, id));
        }
        before += piece.len();
    }
    found
}

fuzz_target!(|data: &[u8]| {
    let (stream, pieces) = pieces(data);
    let found = scan(&[stream]);
    assert_eq!(scan(&pieces), found);
    for id in found.into_iter().filter_map(|(_, id)| id) {
        assert!((1..=129).contains(&id.len()));
        if let Ok(machine) = MachineId::announced(&id) {
            assert_eq!(machine.as_str().as_bytes(), id);
            assert_ne!(machine, MachineId::quarantine());
        }
    }
});
