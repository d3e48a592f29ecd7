//! A TFTP download with a strange client: the first piece is its request, the others are what it sends afterwards
//! (an empty one: nothing, until the time is up). What is sent stays within the file and the window.
#![no_main]

use farmgate_boots::tftp::{Action, ClientPacket, Negotiated, Request, Transfer, encode_oack};
use farmgate_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

/// What fits an Ethernet frame.
const LARGEST_BLOCK: u16 = 1468;
/// Bytes: enough for block numbers to roll over with the smallest blocks.
const LENGTH: u64 = 600_001;

fuzz_target!(|data: &[u8]| {
    let (_, pieces) = pieces(data);
    let Some((request, packets)) = pieces.split_first() else { return };
    let Ok(request) = Request::decode(request) else { return };
    assert!((1..=255).contains(&request.file.len()));
    let agreed = Negotiated::from_request(&request, LENGTH, LARGEST_BLOCK);
    assert!((8..=LARGEST_BLOCK).contains(&agreed.block_size) && (1..=64).contains(&agreed.window));
    // The options that are confirmed must fit the smallest packet.
    assert!(encode_oack(&agreed.confirm).len() <= 512);

    let last = LENGTH / u64::from(agreed.block_size) + 1;
    let window = u64::from(agreed.window);
    let mut transfer = Transfer::new(agreed, LENGTH);
    let mut action = transfer.start();
    for packet in packets {
        match &action {
            Action::SendBlocks(blocks, wait) => {
                let (first, end) = (*blocks.start(), *blocks.end());
                assert!(1 <= first && first <= end && end <= last && end - first < window, "{blocks:?}");
                assert!(!wait.is_zero());
                let (offset, length) = transfer.block(end, LENGTH);
                assert!(offset + length as u64 <= LENGTH);
            }
            Action::SendOack(wait) => assert!(!wait.is_zero()),
            Action::Wait => {}
            Action::Done | Action::GiveUp => return,
        }
        action = match ClientPacket::decode(packet) {
            Some(ClientPacket::Ack(number)) => transfer.on_ack(number),
            Some(ClientPacket::Error(_)) => return,
            None if packet.is_empty() => transfer.on_timeout(),
            None => Action::Wait,
        };
    }
});
