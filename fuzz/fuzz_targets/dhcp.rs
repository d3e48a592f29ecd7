//! DHCP packets: any bytes are read or refused, what was read is written so that it reads back the same, and the
//! server's decision about it holds, whatever it says.
#![no_main]

use std::{net::Ipv4Addr, time::Duration};

use farmgate_boots::{
    BootDirectory, BootPlan, Reservation, ScriptRequest, Sighting,
    dhcp::{Dhcp, DhcpSettings, LeaseTable, Op, Packet},
};
use farmgate_protocol::{MacAddress, Timestamp};
use libfuzzer_sys::fuzz_target;

/// Knows no machine.
struct Nobody;

impl BootDirectory for Nobody {
    fn reservation(&self, _: MacAddress) -> Option<Reservation> {
        None
    }

    fn is_reserved(&self, _: Ipv4Addr) -> bool {
        false
    }

    fn plan(&self, _: MacAddress, _: &ScriptRequest) -> Result<BootPlan, String> {
        Err("nothing".to_owned())
    }

    fn saw(&self, _: Sighting) {}
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 42, 0, 10), Ipv4Addr::new(10, 42, 0, 12)];

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = Packet::decode(data) else { return };
    assert_eq!(Packet::decode(&packet.encode()).as_ref(), Ok(&packet));

    let settings = DhcpSettings {
        address: GATEWAY,
        prefix_len: 24,
        lease_time: Duration::from_secs(600),
        base_url: "http://10.42.0.1".to_owned(),
    };
    let mut leases = LeaseTable::new(POOL[0]..=POOL[1], GATEWAY);
    let dhcp = Dhcp::new(settings);
    // The second answer meets what the first one left in the table.
    for second in 0..2 {
        let now = Timestamp::from_micros(1_700_000_000_000_000) + Duration::from_secs(second);
        let outcome = dhcp.exchange(&packet, &mut leases, &Nobody, now);
        let Some((reply, _)) = outcome.reply else { continue };
        assert_eq!((reply.op, reply.xid, reply.chaddr), (Op::Reply, packet.xid, packet.chaddr));
        assert!(reply.yiaddr.is_unspecified() || (POOL[0]..=POOL[1]).contains(&reply.yiaddr), "{reply:?}");
        assert_eq!(Packet::decode(&reply.encode()), Ok(reply));
    }
});
