use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;

fn agreed(block_size: u16, window: u16) -> Negotiated {
    Negotiated { block_size, window, timeout: None, confirm: Vec::new() }
}

fn request(options: &[(&str, &str)]) -> Request {
    let options = options.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Request { file: "f".to_owned(), mode: "octet".to_owned(), options }
}

#[test]
fn known_options_are_confirmed_within_limits_and_others_ignored() {
    let all = request(&[
        ("tsize", "0"),
        ("blksize", "65464"),
        ("windowsize", "1000"),
        ("timeout", "3"),
        ("multicast", ""),
        ("blksize", "8"),
    ]);
    let agreed = Negotiated::from_request(&all, 4711, 1468);
    assert_eq!(agreed.confirm, [("tsize", 4711), ("blksize", 1468), ("windowsize", 64), ("timeout", 3)]);
    assert_eq!((agreed.block_size, agreed.window, agreed.timeout), (1468, 64, Some(Duration::from_secs(3))));
    let bad = request(&[("blksize", "7"), ("windowsize", "0"), ("timeout", "256"), ("blksize", "x")]);
    assert!(Negotiated::from_request(&bad, 1, 1468).confirm.is_empty());
}

#[test]
fn a_whole_number_of_blocks_ends_with_an_empty_one() {
    let mut transfer = Transfer::new(agreed(512, 1), 1024);
    assert_eq!(transfer.start(), Action::SendBlocks(1..=1, FIRST_WAIT));
    assert_eq!(transfer.on_ack(1), Action::SendBlocks(2..=2, FIRST_WAIT));
    assert_eq!(transfer.on_ack(2), Action::SendBlocks(3..=3, FIRST_WAIT));
    assert_eq!(transfer.block(3, 1024), (1024, 0));
    assert_eq!(transfer.on_ack(3), Action::Done);
}

#[test]
fn a_repeated_acknowledgement_in_lock_step_sends_nothing() {
    let mut transfer = Transfer::new(agreed(512, 1), 5000);
    transfer.start();
    assert_eq!(transfer.on_ack(1), Action::SendBlocks(2..=2, FIRST_WAIT));
    assert_eq!(transfer.on_ack(1), Action::Wait);
    assert_eq!(transfer.on_ack(0), Action::Wait);
    assert_eq!(transfer.on_ack(9), Action::Wait, "never sent");
    assert_eq!(transfer.on_timeout(), Action::SendBlocks(2..=2, FIRST_WAIT * 2));
}

#[test]
fn a_gap_in_a_window_is_filled_from_the_gap_on() {
    let mut transfer = Transfer::new(agreed(512, 4), 512 * 20);
    assert_eq!(transfer.start(), Action::SendBlocks(1..=4, FIRST_WAIT));
    assert_eq!(transfer.on_ack(2), Action::SendBlocks(3..=6, FIRST_WAIT));
    assert_eq!(
        transfer.on_ack(2),
        Action::SendBlocks(3..=6, FIRST_WAIT),
        "the first block of the window was lost"
    );
    assert_eq!(transfer.on_ack(2), Action::Wait, "once is enough");
}

#[test]
fn options_are_repeated_until_they_are_acknowledged() {
    let mut transfer = Transfer::new(Negotiated::from_request(&request(&[("tsize", "0")]), 10, 1468), 10);
    assert_eq!(transfer.start(), Action::SendOack(FIRST_WAIT));
    assert_eq!(transfer.on_timeout(), Action::SendOack(FIRST_WAIT * 2));
    assert_eq!(transfer.on_ack(7), Action::Wait);
    assert_eq!(transfer.on_ack(0), Action::SendBlocks(1..=1, FIRST_WAIT));
    assert_eq!(transfer.on_ack(1), Action::Done);
}

#[test]
fn a_silent_client_is_given_up_after_a_minute() {
    let mut transfer = Transfer::new(agreed(512, 1), 10);
    let mut waited = Duration::ZERO;
    let mut action = transfer.start();
    while let Action::SendBlocks(_, wait) = action {
        waited += wait;
        action = transfer.on_timeout();
    }
    assert_eq!(action, Action::GiveUp);
    assert!(waited >= GIVE_UP && waited < GIVE_UP + LONGEST_WAIT, "{waited:?}");
}

#[test]
fn block_numbers_roll_over() {
    let length = 8 * 70_000;
    let mut transfer = Transfer::new(agreed(8, 1), length);
    let mut action = transfer.start();
    let mut blocks = 0;
    while let Action::SendBlocks(range, _) = action {
        blocks += 1;
        assert_eq!(range, blocks..=blocks);
        action = transfer.on_ack(u16::try_from(blocks % 65536).unwrap());
    }
    assert_eq!((action, blocks), (Action::Done, 70_001));
}

/// What happens to one packet on its way, in tenths of milliseconds of delay for each copy that arrives.
#[derive(Debug, Clone)]
struct Fate(Vec<u64>);

fn any_fate(loss: u32) -> impl Strategy<Value = Fate> {
    prop_oneof![
        loss => Just(Fate(vec![])),
        (85 - loss) => (1u64..30).prop_map(|d| Fate(vec![d])),
        // Late enough to overtake and to be overtaken.
        10 => (1u64..9000).prop_map(|d| Fate(vec![d])),
        5 => (1u64..30, 1u64..9000).prop_map(|(a, b)| Fate(vec![a, b])),
    ]
}

/// Events by time: a packet to the client (block), to the server (acknowledgement), or a client's timeout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Block(u64),
    Ack(u16),
    ServerTimeout(u64),
    ClientTimeout(u64),
}

/// A client after RFC 1350 and 7440: takes blocks in order, acknowledges each window, gaps, and silence.
struct Client {
    window: u64,
    received: u64,
    unacknowledged: u64,
    bytes: Vec<u8>,
    finished: bool,
}

impl Client {
    fn on_block(&mut self, number: u64, data: &[u8], full: bool) -> Option<u16> {
        // It sees only the low 16 bits, like a real one.
        if number as u16 == (self.received + 1) as u16 {
            self.received += 1;
            self.bytes.extend_from_slice(data);
            self.finished |= !full;
            self.unacknowledged += 1;
            if self.unacknowledged < self.window && full {
                return None;
            }
        }
        self.unacknowledged = 0;
        Some(self.received as u16)
    }
}

/// The events to come; packets meet their fates in turn.
struct Channel<'a> {
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    fates: &'a [Fate],
    now: u64,
    packets: usize,
    sequence: u64,
}

impl Channel<'_> {
    fn send(&mut self, event: &Event) {
        self.packets += 1;
        for delay in &self.fates[self.packets % self.fates.len()].0 {
            self.at(self.now + delay, event.clone());
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence, event)));
    }
}

/// Runs a transfer over a bad channel in virtual time and returns what the client got.
fn run(file: &[u8], block_size: u16, window: u16, fates: &[Fate]) -> Vec<u8> {
    let length = file.len() as u64;
    let mut transfer = Transfer::new(agreed(block_size, window), length);
    let mut client =
        Client { window: window.into(), received: 0, unacknowledged: 0, bytes: vec![], finished: false };
    let mut channel = Channel { queue: BinaryHeap::new(), fates, now: 0, packets: 0, sequence: 0 };
    let (mut server_timer, mut client_timer) = (0, 0);
    let mut action = transfer.start();
    loop {
        match action {
            Action::SendBlocks(range, wait) => {
                range.for_each(|number| channel.send(&Event::Block(number)));
                server_timer += 1;
                let due = channel.now + u64::try_from(wait.as_micros()).unwrap() / 100;
                channel.at(due, Event::ServerTimeout(server_timer));
            }
            Action::Done | Action::GiveUp => return client.bytes,
            Action::Wait | Action::SendOack(_) => {}
        }
        action = Action::Wait;
        let Some(Reverse((time, _, event))) = channel.queue.pop() else { return client.bytes };
        channel.now = time;
        let acknowledge = match event {
            Event::Block(number) => {
                let (offset, size) = transfer.block(number, length);
                let offset = usize::try_from(offset).unwrap();
                client.on_block(number, &file[offset..offset + size], size == usize::from(block_size))
            }
            Event::ClientTimeout(timer) if timer == client_timer && !client.finished => {
                Some(client.received as u16)
            }
            Event::Ack(number) => {
                action = transfer.on_ack(number);
                None
            }
            Event::ServerTimeout(timer) if timer == server_timer => {
                action = transfer.on_timeout();
                None
            }
            Event::ClientTimeout(_) | Event::ServerTimeout(_) => None,
        };
        if let Some(number) = acknowledge {
            channel.send(&Event::Ack(number));
            client_timer += 1;
            channel.at(channel.now + 10_000, Event::ClientTimeout(client_timer));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_bytes_arrive_exact_over_a_channel_that_loses_repeats_and_reorders(
        file in prop::collection::vec(any::<u8>(), 0..6000),
        block_size in prop_oneof![Just(8u16), Just(64), Just(512), Just(1468)],
        window in prop_oneof![Just(1u16), Just(4), Just(16), Just(64)],
        fates in (0u32..30).prop_flat_map(|loss| prop::collection::vec(any_fate(loss), 997)),
    ) {
        prop_assert_eq!(run(&file, block_size, window, &fates), file);
    }
}
