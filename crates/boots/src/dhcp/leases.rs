//! Who holds which address.
//!
//! The table owns the pool and promises that no two clients hold one address, that a client keeps its address for
//! as long as it is remembered, and that memory is bounded by the pool and the reservations. It is in memory only:
//! after a restart clients that still have an address are believed if that address is free, and newcomers are kept
//! away from it by giving each client, where possible, the address that its MAC address stands for.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use farmgate_protocol::{MacAddress, Timestamp};
use serde::Serialize;

use crate::BootDirectory;

/// How long an offered address is held for the client that may take it.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// How long an address is left alone after a client found it in use.
const DECLINE_HOLD: Duration = Duration::from_secs(600);

/// An address that a client took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// Who has it.
    pub mac: MacAddress,
    /// The address.
    pub address: Ipv4Addr,
    /// Until when, if it is not renewed. May lie in the past: the lease is remembered until the address is needed.
    pub expires: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    address: Ipv4Addr,
    /// The client took the address; otherwise it was only offered.
    taken: bool,
    expires: Timestamp,
}

/// The addresses and their holders.
#[derive(Debug)]
pub struct LeaseTable {
    pool: RangeInclusive<u32>,
    own_address: Ipv4Addr,
    by_mac: HashMap<MacAddress, Entry>,
    by_address: HashMap<Ipv4Addr, MacAddress>,
    /// Addresses that clients found in use, and until when to leave them alone.
    declined: HashMap<Ipv4Addr, Timestamp>,
}

impl LeaseTable {
    /// An empty table. `own_address` is the gateway's and never given away.
    pub fn new(pool: RangeInclusive<Ipv4Addr>, own_address: Ipv4Addr) -> Self {
        let (first, last) = (u32::from(*pool.start()), u32::from(*pool.end()));
        Self {
            pool: first..=last,
            own_address,
            by_mac: HashMap::new(),
            by_address: HashMap::new(),
            declined: HashMap::new(),
        }
    }

    /// Picks an address for the client and holds it for a minute: its reservation, else what it had, else what it
    /// wishes if nobody is remembered with it, else an unused one, else the one whose lease ran out first. None when
    /// the pool is exhausted.
    pub fn offer(
        &mut self,
        mac: MacAddress,
        wish: Option<Ipv4Addr>,
        directory: &dyn BootDirectory,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        let address = self.choose(mac, wish, directory, now)?;
        match self.by_mac.get_mut(&mac) {
            // A client that reboots asks anew while it still holds its lease: an offer does not shorten it.
            Some(entry) if entry.address == address => entry.expires = entry.expires.max(now + OFFER_HOLD),
            _ => self.assign(mac, Entry { address, taken: false, expires: now + OFFER_HOLD }),
        }
        Some(address)
    }

    /// Gives the client the address that it asks for, if it is the one that it should have.
    pub fn take(
        &mut self,
        mac: MacAddress,
        address: Ipv4Addr,
        duration: Duration,
        directory: &dyn BootDirectory,
        now: Timestamp,
    ) -> bool {
        if self.choose(mac, Some(address), directory, now) != Some(address) {
            return false;
        }
        self.assign(mac, Entry { address, taken: true, expires: now + duration });
        true
    }

    /// The client gives its address back. It is remembered, but anyone may have it.
    pub fn release(&mut self, mac: MacAddress, address: Ipv4Addr, now: Timestamp) {
        if let Some(entry) = self.by_mac.get_mut(&mac).filter(|e| e.address == address) {
            entry.expires = now;
        }
    }

    /// The client did not take what was offered (it chose another server).
    pub fn withdraw(&mut self, mac: MacAddress, now: Timestamp) {
        if let Some(entry) = self.by_mac.get_mut(&mac).filter(|e| !e.taken) {
            entry.expires = now;
        }
    }

    /// The client found its address in use by somebody else. True if it was its address.
    pub fn decline(&mut self, mac: MacAddress, address: Ipv4Addr, now: Timestamp) -> bool {
        if self.by_mac.get(&mac).is_none_or(|e| e.address != address) {
            return false;
        }
        self.by_mac.remove(&mac);
        self.by_address.remove(&address);
        self.declined.retain(|_, until| *until > now);
        // A liar could decline address after address: it gets no more than a quarter of the pool.
        if self.in_pool(address) && self.declined.len() < self.pool_size() / 4 {
            self.declined.insert(address, now + DECLINE_HOLD);
        }
        true
    }

    /// Who took the address last. It answers beyond the lease's end, until somebody else gets the address.
    pub fn mac_at(&self, address: Ipv4Addr) -> Option<MacAddress> {
        let mac = self.by_address.get(&address)?;
        self.by_mac.get(mac).filter(|e| e.taken).map(|_| *mac)
    }

    /// Every lease that is remembered, by address.
    pub fn all(&self) -> Vec<Lease> {
        let mut leases: Vec<Lease> = self
            .by_mac
            .iter()
            .filter(|(_, e)| e.taken)
            .map(|(mac, e)| Lease { mac: *mac, address: e.address, expires: e.expires })
            .collect();
        leases.sort_by_key(|lease| lease.address);
        leases
    }

    fn choose(
        &self,
        mac: MacAddress,
        wish: Option<Ipv4Addr>,
        directory: &dyn BootDirectory,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        if let Some(reserved) = directory.reservation(mac) {
            match self.holder(reserved.address, now) {
                Some(other) if other != mac => {
                    tracing::warn!(%mac, address = %reserved.address, holder = %other,
                        "reserved address is leased to another client; using the pool until that lease ends");
                }
                _ => return Some(reserved.address),
            }
        }
        let current = self.by_mac.get(&mac).map(|e| e.address);
        if let Some(address) = current.filter(|a| self.is_for_anyone(*a, directory, now)) {
            return Some(address);
        }
        // Not one that ran out or was given back either: anyone can give it back in another's name, who still uses it.
        let unused = |a: &Ipv4Addr| self.is_for_anyone(*a, directory, now) && !self.is_remembered(*a, now);
        wish.filter(unused).or_else(|| self.addresses_for(mac).find(unused)).or_else(|| {
            self.by_mac
                .values()
                .filter(|e| e.expires <= now && self.is_for_anyone(e.address, directory, now))
                .min_by_key(|e| e.expires)
                .map(|e| e.address)
        })
    }

    /// The pool's addresses in the order in which this client is given one. It begins at a place of the client's own
    /// (the last byte of MAC addresses tells machines of one maker apart), so that a table that forgot everything does
    /// not give a newcomer what an older client still uses.
    fn addresses_for(&self, mac: MacAddress) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = (*self.pool.start(), *self.pool.end());
        let size = u64::from(last - first) + 1;
        let place = u64::from(mac.0[5].wrapping_sub(1)) * (size / 256).max(1) % size;
        let begin = first + u32::try_from(place).unwrap_or(0);
        (begin..=last).chain(first..begin).map(Ipv4Addr::from)
    }

    /// Writes an entry and removes what stood in its way, so that both maps always tell the same.
    fn assign(&mut self, mac: MacAddress, entry: Entry) {
        if let Some(old) = self.by_mac.insert(mac, entry) {
            self.by_address.remove(&old.address);
        }
        if let Some(other) = self.by_address.insert(entry.address, mac)
            && other != mac
        {
            self.by_mac.remove(&other);
        }
    }

    /// Who holds the address now, by lease or offer.
    fn holder(&self, address: Ipv4Addr, now: Timestamp) -> Option<MacAddress> {
        let mac = self.by_address.get(&address)?;
        self.by_mac.get(mac).filter(|e| e.expires > now).map(|_| *mac)
    }

    /// Whether a client took the address once, or is just being offered it.
    fn is_remembered(&self, address: Ipv4Addr, now: Timestamp) -> bool {
        let entry = self.by_address.get(&address).and_then(|mac| self.by_mac.get(mac));
        entry.is_some_and(|e| e.taken || e.expires > now)
    }

    fn is_for_anyone(&self, address: Ipv4Addr, directory: &dyn BootDirectory, now: Timestamp) -> bool {
        self.in_pool(address)
            && address != self.own_address
            && self.declined.get(&address).is_none_or(|until| *until <= now)
            && !directory.is_reserved(address)
    }

    fn in_pool(&self, address: Ipv4Addr) -> bool {
        self.pool.contains(&u32::from(address))
    }

    fn pool_size(&self) -> usize {
        usize::try_from(self.pool.end() - self.pool.start()).unwrap_or(usize::MAX).saturating_add(1)
    }
}

/// The lease table, for those who only look. Clones show the same table.
#[derive(Debug, Clone)]
pub struct Leases(Arc<Mutex<LeaseTable>>);

impl Leases {
    /// Shares a table.
    pub fn new(table: LeaseTable) -> Self {
        Self(Arc::new(Mutex::new(table)))
    }

    /// Who took the address last; see [`LeaseTable::mac_at`].
    pub fn mac_at(&self, address: Ipv4Addr) -> Option<MacAddress> {
        self.lock().mac_at(address)
    }

    /// Every lease that is remembered, by address.
    pub fn all(&self) -> Vec<Lease> {
        self.lock().all()
    }

    /// The table is consistent between any two of its calls, so a panic elsewhere does not spoil it.
    pub(super) fn lock(&self) -> MutexGuard<'_, LeaseTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{BootPlan, Reservation, ScriptRequest, Sighting};

    /// Reserves addresses for MAC addresses that end in 200 and more.
    struct Reserved;

    impl BootDirectory for Reserved {
        fn reservation(&self, mac: MacAddress) -> Option<Reservation> {
            let last = mac.0[5];
            // 200 has an address within the pool.
            (last >= 200).then(|| Reservation {
                address: address(if last == 200 { 12 } else { last }),
                host_name: None,
            })
        }
        fn is_reserved(&self, a: Ipv4Addr) -> bool {
            a == address(12) || a.octets()[3] > 200
        }
        fn plan(&self, _: MacAddress, _: &ScriptRequest) -> Result<BootPlan, String> {
            Err("no plans here".to_owned())
        }
        fn saw(&self, _: Sighting) {}
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 42, 0, last)
    }
    fn mac(last: u8) -> MacAddress {
        MacAddress([0x52, 0x54, 0, 0x11, 0x22, last])
    }
    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }
    fn table() -> LeaseTable {
        LeaseTable::new(address(10)..=address(15), address(11))
    }
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_pool_leaves_out_what_is_reserved_and_the_gateway_itself() {
        let mut table = table();
        let given: Vec<_> = (1..=5).map(|m| table.offer(mac(m), None, &Reserved, at(0))).collect();
        assert_eq!(given, [Some(address(10)), Some(address(13)), Some(address(14)), Some(address(15)), None]);
        assert_eq!(table.offer(mac(200), None, &Reserved, at(0)), Some(address(12)));
        assert!(!table.take(mac(1), address(12), HOUR, &Reserved, at(0)), "reserved for another");
    }

    #[test]
    fn a_client_keeps_its_address_until_the_pool_needs_it() {
        let mut table = table();
        assert!(table.take(mac(1), address(13), HOUR, &Reserved, at(0)));
        assert_eq!(table.offer(mac(1), Some(address(14)), &Reserved, at(100_000)), Some(address(13)));
        assert_eq!(table.mac_at(address(13)), Some(mac(1)));
        for m in 2..=4 {
            assert!(table.offer(mac(m), None, &Reserved, at(200_000)).is_some());
        }
        assert_eq!(
            table.offer(mac(5), None, &Reserved, at(200_000)),
            Some(address(13)),
            "the one that ran out"
        );
        assert_eq!(table.mac_at(address(13)), None, "only offered");
    }

    #[test]
    fn nobody_gets_an_address_by_giving_it_back_in_anothers_name() {
        let mut table = table();
        assert!(table.take(mac(1), address(10), HOUR, &Reserved, at(0)));
        table.release(mac(1), address(10), at(1));
        assert_eq!(table.offer(mac(9), Some(address(10)), &Reserved, at(2)), Some(address(13)));
        assert!(!table.take(mac(9), address(10), HOUR, &Reserved, at(3)));
        assert_eq!(table.mac_at(address(10)), Some(mac(1)));
    }

    #[test]
    fn a_newcomer_after_a_restart_does_not_get_what_an_older_client_still_uses() {
        let mut before = table();
        let older = before.offer(mac(1), None, &Reserved, at(0));
        let mut after = table();
        assert_ne!(after.offer(mac(4), None, &Reserved, at(10)), older);
        assert_eq!(after.offer(mac(1), None, &Reserved, at(20)), older, "and that one finds it again");
    }

    #[test]
    fn every_address_of_the_pool_is_found_from_any_place() {
        for (first, last) in [([10, 42, 0, 128], [10, 42, 0, 254]), ([10, 0, 0, 1], [10, 0, 255, 254])] {
            let (first, last) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
            let table = LeaseTable::new(first..=last, address(1));
            for m in [0, 1, 2, 128, 255] {
                let found: HashSet<_> = table.addresses_for(mac(m)).collect();
                assert_eq!(found.len(), table.pool_size());
                assert!(found.contains(&first) && found.contains(&last));
            }
        }
    }

    #[test]
    fn a_declined_address_rests_and_decliners_cannot_empty_the_pool() {
        let mut table = table();
        assert_eq!(table.offer(mac(1), None, &Reserved, at(0)), Some(address(10)));
        assert!(table.decline(mac(1), address(10), at(0)));
        assert!(!table.decline(mac(2), address(13), at(0)), "not its address");
        assert_eq!(table.offer(mac(1), Some(address(10)), &Reserved, at(1)), Some(address(13)));
        assert!(table.decline(mac(1), address(13), at(1)));
        assert_eq!(table.declined.len(), 1, "a quarter of six");
        assert_eq!(table.offer(mac(7), Some(address(10)), &Reserved, at(601)), Some(address(10)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Offer(u8, Option<u8>),
        Take(u8, u8),
        Release(u8, u8),
        Decline(u8, u8),
        Withdraw(u8),
        Wait(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let client = prop_oneof![0u8..12, 199u8..204];
        let last = prop_oneof![8u8..18, 199u8..204];
        prop_oneof![
            (client.clone(), prop::option::of(last.clone())).prop_map(|(m, a)| Step::Offer(m, a)),
            (client.clone(), last.clone()).prop_map(|(m, a)| Step::Take(m, a)),
            (client.clone(), last.clone()).prop_map(|(m, a)| Step::Release(m, a)),
            (client.clone(), last).prop_map(|(m, a)| Step::Decline(m, a)),
            client.prop_map(Step::Withdraw),
            (0u64..5000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn no_two_clients_ever_hold_one_address(steps in prop::collection::vec(any_step(), 0..200)) {
            let mut table = table();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Offer(m, a) => { table.offer(mac(m), a.map(address), &Reserved, at(now)); }
                    Step::Take(m, a) => { table.take(mac(m), address(a), HOUR, &Reserved, at(now)); }
                    Step::Release(m, a) => table.release(mac(m), address(a), at(now)),
                    Step::Decline(m, a) => { table.decline(mac(m), address(a), at(now)); }
                    Step::Withdraw(m) => table.withdraw(mac(m), at(now)),
                    Step::Wait(seconds) => now += seconds,
                }
                let held: HashSet<_> = table.by_mac.values().map(|e| e.address).collect();
                prop_assert_eq!(held.len(), table.by_mac.len());
                prop_assert_eq!(table.by_address.len(), table.by_mac.len());
                for (mac, entry) in &table.by_mac {
                    prop_assert_eq!(table.by_address.get(&entry.address), Some(mac));
                    prop_assert_ne!(entry.address, table.own_address);
                    let reserved = Reserved.reservation(*mac).map(|r| r.address);
                    prop_assert!(reserved == Some(entry.address) || !Reserved.is_reserved(entry.address));
                }
            }
        }
    }
}
