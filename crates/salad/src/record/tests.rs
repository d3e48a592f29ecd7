use std::fs;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::offset::Chunk;

const SMALL: RecordSettings = RecordSettings { segment_bytes: 256, keep_bytes: 1 << 20 };

fn read_all(record: &Arc<Record>, from: u64) -> Vec<Chunk> {
    let mut cursor = Cursor::new(Arc::clone(record), ConsoleOffset(from));
    let mut all = Vec::new();
    loop {
        let chunks = cursor.read().unwrap();
        if chunks.is_empty() {
            return all;
        }
        all.extend(chunks);
    }
}

fn joined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

/// Bytes whose value tells their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}

fn written(dir: &Path, settings: RecordSettings, pieces: &[usize]) -> Vec<u8> {
    let record = Record::open(dir, settings).unwrap();
    let bytes = pattern(pieces.iter().sum());
    let mut at = 0;
    for (number, piece) in pieces.iter().enumerate() {
        record.append(ConsoleTime(number as i64), &bytes[at..at + piece]).unwrap();
        at += piece;
    }
    bytes
}

#[test]
fn every_offset_gives_the_bytes_that_were_appended_there_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = written(dir.path(), SMALL, &[1, 100, 3, 255, 1, 1, 300, 70_000, 2]);
    let record = Arc::new(Record::open(dir.path(), SMALL).unwrap());
    for from in (0..400).chain([65_000, 70_660, bytes.len()]) {
        let chunks = read_all(&record, from as u64);
        assert_eq!(joined(&chunks), &bytes[from..], "from {from}");
        assert!(chunks.first().is_none_or(|chunk| chunk.offset.0 == from as u64));
    }
    assert_eq!(read_all(&record, 50)[0].time, ConsoleTime(1));
    assert_eq!(joined(&read_all(&record, u64::MAX)), b"", "beyond the end is the end");
}

#[test]
fn a_reopened_record_goes_on_and_says_that_bytes_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = written(dir.path(), SMALL, &[10, 20]);
    let record = Arc::new(Record::open(dir.path(), SMALL).unwrap());
    assert_eq!(record.end(), ConsoleOffset(30), "nothing is said while nothing is new");
    record.append(ConsoleTime(9), b"again").unwrap();
    bytes.extend_from_slice(writer::RESTARTED);
    bytes.extend_from_slice(b"again");
    assert_eq!(joined(&read_all(&record, 0)), bytes);
}

#[test]
fn retention_drops_the_oldest_segments_and_offsets_stay() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RecordSettings { segment_bytes: 1000, keep_bytes: 5000 };
    let bytes = written(dir.path(), settings, &[100; 200]);
    let kept: u64 = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(kept <= 5000 && kept > 2000, "{kept}");
    let record = Arc::new(Record::open(dir.path(), settings).unwrap());
    let chunks = read_all(&record, 0);
    let first = usize::try_from(chunks[0].offset.0).unwrap();
    assert!(first > 0);
    assert_eq!(joined(&chunks), &bytes[first..]);
    assert_eq!(record.end().0, bytes.len() as u64);
}

#[test]
fn a_cursor_reads_on_in_a_segment_that_was_dropped_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RecordSettings { segment_bytes: 300_000, keep_bytes: 700_000 };
    let record = Arc::new(Record::open(dir.path(), settings).unwrap());
    let bytes = pattern(1_600_000);
    let mut cursor = Cursor::new(Arc::clone(&record), ConsoleOffset(0));
    for (number, piece) in bytes.chunks(20_000).enumerate() {
        record.append(ConsoleTime(0), piece).unwrap();
        if number == 14 {
            assert!(cursor.read().unwrap()[0].offset.0 == 0);
        }
    }
    let mut last = cursor.position().0;
    loop {
        let chunks = cursor.read().unwrap();
        let Some(first) = chunks.first() else { break };
        let at = first.offset.0 as usize;
        assert!(first.offset.0 >= last);
        let got = joined(&chunks);
        assert_eq!(got, &bytes[at..at + got.len()]);
        last = chunks.last().unwrap().end().0;
    }
    assert_eq!(last, bytes.len() as u64);
}

#[derive(Debug, Clone)]
enum Damage {
    Cut { file: usize, at: usize },
    Flip { file: usize, at: usize, bits: u8 },
    Delete { file: usize },
    Append { file: usize, bytes: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    let file = 0usize..50;
    prop_oneof![
        (file.clone(), 0usize..2000).prop_map(|(file, at)| Damage::Cut { file, at }),
        (file.clone(), 0usize..2000, 1u8..).prop_map(|(file, at, bits)| Damage::Flip { file, at, bits }),
        file.clone().prop_map(|file| Damage::Delete { file }),
        (file, proptest::collection::vec(any::<u8>(), 1..100))
            .prop_map(|(file, bytes)| Damage::Append { file, bytes }),
    ]
}

fn apply(dir: &Path, damage: &Damage) {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let (Damage::Cut { file, .. }
    | Damage::Flip { file, .. }
    | Damage::Delete { file }
    | Damage::Append { file, .. }) = damage;
    if files.is_empty() {
        return;
    }
    let path = &files[file % files.len()];
    let mut content = fs::read(path).unwrap();
    match damage {
        Damage::Delete { .. } => return fs::remove_file(path).unwrap(),
        Damage::Cut { at, .. } => content.truncate(at % (content.len() + 1)),
        Damage::Append { bytes, .. } => content.extend(bytes),
        Damage::Flip { at, bits, .. } => {
            let length = content.len().max(1);
            if let Some(byte) = content.get_mut(at % length) {
                *byte ^= bits;
            }
        }
    }
    fs::write(path, content).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_to_one_segment_a_prefix_is_left(
        pieces in proptest::collection::vec(1usize..60, 0..20),
        damages in proptest::collection::vec(damage(), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = written(dir.path(), RecordSettings::default(), &pieces);
        damages.iter().for_each(|damage| apply(dir.path(), damage));
        let record = Arc::new(Record::open(dir.path(), RecordSettings::default()).unwrap());
        let left = joined(&read_all(&record, 0));
        prop_assert!(bytes.starts_with(&left));
        prop_assert_eq!(record.end().0, left.len() as u64);
    }

    #[test]
    fn whatever_happens_to_many_segments_no_byte_is_wrong_and_appending_goes_on(
        pieces in proptest::collection::vec(1usize..200, 0..40),
        damages in proptest::collection::vec(damage(), 0..6),
        from in 0u64..4000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = written(dir.path(), SMALL, &pieces);
        damages.iter().for_each(|damage| apply(dir.path(), damage));
        let record = Arc::new(Record::open(dir.path(), SMALL).unwrap());
        let mut position = 0;
        for chunk in read_all(&record, from) {
            let at = chunk.offset.0 as usize;
            prop_assert!(chunk.offset.0 >= position);
            prop_assert_eq!(&chunk.bytes[..], &bytes[at..at + chunk.bytes.len()]);
            position = chunk.end().0;
        }
        let end = record.end();
        record.append(ConsoleTime(0), b"news").unwrap();
        prop_assert!(joined(&read_all(&record, end.0)).ends_with(b"news"));
    }
}
