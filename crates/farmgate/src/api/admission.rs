//! How many connections there may be: of an address, of a kind of caller, and of all. So neither a machine nor a
//! neighbour takes the places of the others. Pure counting; a place is given back when its [`Place`] is dropped.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{failures::subject, origin::Origin};

/// Connections that a machine may have: a boot loader takes one, our init a few.
const PER_MACHINE: usize = 32;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all callers together. Machines may have a quarter of them, those from elsewhere (trusted or not) half; the
    /// gateway's own host always finds the rest.
    pub all: usize,
    /// Of one address that is neither a machine's nor the gateway's own.
    pub per_address: usize,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, usize>,
    machines: usize,
    others: usize,
    all: usize,
}

/// The places.
#[derive(Debug, Clone)]
pub struct Admission {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

/// A connection's place.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Machine,
    Local,
    Other,
}

fn locked(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admission {
    /// With nobody in it.
    pub fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// A place for a connection, or none.
    pub fn enter(&self, address: IpAddr, origin: Origin) -> Option<Place> {
        let address = subject(address);
        let kind = match origin {
            Origin::Machine(_) => Kind::Machine,
            Origin::Local => Kind::Local,
            Origin::Trusted | Origin::Stranger => Kind::Other,
        };
        let Limits { all, per_address } = self.limits;
        let mut counts = locked(&self.counts);
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        let free = counts.all < all
            && match kind {
                Kind::Machine => of_address < PER_MACHINE && counts.machines < all / 4,
                Kind::Other => of_address < per_address && counts.others < all / 2,
                Kind::Local => true,
            };
        if !free {
            return None;
        }
        counts.all += 1;
        match kind {
            Kind::Machine => counts.machines += 1,
            Kind::Other => counts.others += 1,
            Kind::Local => {}
        }
        *counts.by_address.entry(address).or_insert(0) += 1;
        Some(Place { counts: Arc::clone(&self.counts), address, kind })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = locked(&self.counts);
        counts.all -= 1;
        match self.kind {
            Kind::Machine => counts.machines -= 1,
            Kind::Other => counts.others -= 1,
            Kind::Local => {}
        }
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn machine(n: u32) -> Origin {
        Origin::Machine(n.into())
    }

    #[test]
    fn an_address_has_its_places_and_gives_them_back() {
        let admission = Admission::new(Limits { all: 1000, per_address: 3 });
        let mut places: Vec<Place> =
            (0..3).filter_map(|_| admission.enter(address(1), Origin::Stranger)).collect();
        assert_eq!(places.len(), 3);
        assert!(admission.enter(address(1), Origin::Stranger).is_none());
        assert!(admission.enter(address(2), Origin::Stranger).is_some(), "another has its own");
        places.pop();
        assert!(admission.enter(address(1), Origin::Stranger).is_some());
        drop(places);
        let counts = locked(&admission.counts);
        assert_eq!((counts.all, counts.others, counts.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn machines_and_neighbours_leave_places_to_the_gateway_itself() {
        let admission = Admission::new(Limits { all: 1000, per_address: 300 });
        let machines: Vec<Place> = (0..100)
            .flat_map(|n| (0..100).map(move |_| n))
            .filter_map(|n| admission.enter(address(n), machine(n)))
            .collect();
        assert_eq!(machines.len(), 250);
        let others: Vec<Place> = (1000..1100)
            .flat_map(|n| (0..100).map(move |_| n))
            .filter_map(|n| admission.enter(address(n), Origin::Trusted))
            .collect();
        assert_eq!(others.len(), 500);
        let local: Vec<Place> =
            (0..1000).filter_map(|_| admission.enter([127, 0, 0, 1].into(), Origin::Local)).collect();
        assert_eq!(local.len(), 250);
    }
}
