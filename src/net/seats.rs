//! How many connections there are, in total and per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The places that connections take. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Seats(Arc<Room>);

#[derive(Debug)]
struct Room {
    total_max: usize,
    address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    // As many entries as there are connections, at most.
    addresses: HashMap<IpAddr, usize>,
}

/// A taken place; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    address: IpAddr,
}

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSeat {
    #[error("the broker has its {0} connections (limit: connections)")]
    Total(usize),
    #[error("this address has its {0} connections (limit: connections_per_address)")]
    Address(usize),
}

impl Seats {
    pub(super) fn new(total_max: usize, address_max: usize) -> Seats {
        Seats(Arc::new(Room { total_max, address_max, taken: Mutex::default() }))
    }

    /// Takes a place for a connection from `address`.
    pub(super) fn take(&self, address: IpAddr) -> Result<Seat, NoSeat> {
        let address = neighbourhood(address);
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.0.total_max {
            return Err(NoSeat::Total(self.0.total_max));
        }
        let here = taken.addresses.entry(address).or_insert(0);
        if *here >= self.0.address_max {
            return Err(NoSeat::Address(self.0.address_max));
        }
        *here += 1;
        taken.total += 1;
        Ok(Seat { room: Arc::clone(&self.0), address })
    }

    /// The places taken now.
    pub(super) fn taken(&self) -> usize {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(here) = taken.addresses.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: for IPv6 the /64, because one machine has all of it.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_in_total_and_per_address_and_come_free() {
        let seats = Seats::new(3, 2);
        let home: IpAddr = "127.0.0.1".parse().unwrap();
        let first = seats.take(home).unwrap();
        let _second = seats.take(home).unwrap();
        assert_eq!(seats.take("::ffff:127.0.0.1".parse().unwrap()).unwrap_err(), NoSeat::Address(2));
        let _third = seats.take("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(seats.take("10.0.0.1".parse().unwrap()).unwrap_err(), NoSeat::Total(3));
        drop(first);
        assert_eq!(seats.taken(), 2);
        let _again = seats.take(home).unwrap();
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_neighbour() {
        let seats = Seats::new(9, 1);
        let _seat = seats.take("2001:db8:0:7::1".parse().unwrap()).unwrap();
        assert_eq!(seats.take("2001:db8:0:7:ffff::2".parse().unwrap()).unwrap_err(), NoSeat::Address(1));
        assert!(seats.take("2001:db8:0:8::1".parse().unwrap()).is_ok());
    }
}
