//! How many failed attempts an address has left: so that one that guesses tokens, or knocks at what it may not have,
//! fills neither the audit log nor the disk. Pure: it is given the time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use farmgate_protocol::Timestamp;

/// Failures that an address has at once.
const AT_ONCE: u32 = 10;
/// After so long it has one more.
const AGAIN: Duration = Duration::from_secs(6);
/// Addresses that are remembered; beyond that those are forgotten that have all their failures left, or else the older half.
const ADDRESSES: usize = 4096;

/// What a failed attempt comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered, and written down.
    Noted,
    /// The last for now: the audit log says that those that follow are not written down.
    Last,
    /// Too many: ask again after that time.
    TooMany(Duration),
}

/// A bucket of failures for each address.
#[derive(Debug, Default)]
pub struct Failures {
    by_address: HashMap<IpAddr, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    used: u32,
    /// From when on `used` is counted down.
    since: Timestamp,
}

impl Failures {
    /// One more of that address.
    pub fn add(&mut self, address: IpAddr, now: Timestamp) -> Verdict {
        if self.by_address.len() >= ADDRESSES {
            self.forget(now);
        }
        let bucket = self.by_address.entry(subject(address)).or_insert(Bucket { used: 0, since: now });
        bucket.refill(now);
        if bucket.used >= AT_ONCE {
            let left = AGAIN.saturating_sub(now.since(bucket.since));
            return Verdict::TooMany(left.max(Duration::from_secs(1)));
        }
        bucket.used += 1;
        if bucket.used == AT_ONCE { Verdict::Last } else { Verdict::Noted }
    }

    fn forget(&mut self, now: Timestamp) {
        self.by_address.retain(|_, bucket| {
            bucket.refill(now);
            bucket.used > 0
        });
        if self.by_address.len() < ADDRESSES {
            return;
        }
        // Half of them at once, so that this is rare, however many addresses somebody has.
        let mut oldest: Vec<(Timestamp, IpAddr)> =
            self.by_address.iter().map(|(a, b)| (b.since, *a)).collect();
        oldest.sort_unstable();
        for (_, address) in &oldest[..ADDRESSES / 2] {
            self.by_address.remove(address);
        }
    }
}

impl Bucket {
    fn refill(&mut self, now: Timestamp) {
        let steps = now.since(self.since).as_micros() / AGAIN.as_micros();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.used = self.used.saturating_sub(steps);
        // A clock that was set back must not lock anybody out for longer.
        self.since = if self.used == 0 || now < self.since { now } else { self.since + AGAIN * steps };
    }
}

/// Who counts as one: an IPv4 address, or a /64, which is what a single host has of IPv6.
pub fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000) + Duration::from_secs(seconds)
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn ten_failures_at_once_and_then_one_every_six_seconds() {
        let mut failures = Failures::default();
        for n in 1..10 {
            assert_eq!(failures.add(address(1), at(0)), Verdict::Noted, "{n}");
        }
        assert_eq!(failures.add(address(1), at(0)), Verdict::Last);
        assert_eq!(failures.add(address(1), at(2)), Verdict::TooMany(Duration::from_secs(4)));
        assert_eq!(failures.add(address(2), at(2)), Verdict::Noted, "another address has its own");
        assert_eq!(failures.add(address(1), at(6)), Verdict::Last);
        assert!(matches!(failures.add(address(1), at(7)), Verdict::TooMany(_)));
        assert_eq!(failures.add(address(1), at(1000)), Verdict::Noted, "it is all forgotten");
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut failures = Failures::default();
        for _ in 0..20 {
            failures.add(address(1), at(1000));
        }
        assert!(matches!(failures.add(address(1), at(0)), Verdict::TooMany(_)));
        assert_eq!(failures.add(address(1), at(6)), Verdict::Last);
    }

    #[test]
    fn very_many_addresses_take_no_more_room_than_some_thousand() {
        let mut failures = Failures::default();
        for n in 0..100_000 {
            failures.add(address(n), at(0));
        }
        assert!(failures.by_address.len() <= ADDRESSES);
    }

    #[test]
    fn a_host_with_a_64_of_ipv6_is_one() {
        let of = |text: &str| subject(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
