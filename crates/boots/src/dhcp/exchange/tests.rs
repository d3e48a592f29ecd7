use proptest::prelude::*;

use super::*;
use crate::{BootPlan, Reservation, ScriptRequest, Sighting, dhcp::Options};

const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0x11, 0x22, 1]);
const KNOWN: MacAddress = MacAddress([0x52, 0x54, 0, 0x11, 0x22, 0x42]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 100);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

struct OneKnown;

impl BootDirectory for OneKnown {
    fn reservation(&self, mac: MacAddress) -> Option<Reservation> {
        (mac == KNOWN).then(|| Reservation {
            address: Ipv4Addr::new(10, 42, 0, 66),
            host_name: Some("gfx9-1".to_owned()),
        })
    }
    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        address == Ipv4Addr::new(10, 42, 0, 66)
    }
    fn plan(&self, _: MacAddress, _: &ScriptRequest) -> Result<BootPlan, String> {
        Err(String::new())
    }
    fn saw(&self, _: Sighting) {}
}

struct Net {
    dhcp: Dhcp,
    leases: LeaseTable,
    now: Timestamp,
}

impl Net {
    fn new() -> Self {
        let dhcp = Dhcp::new(DhcpSettings {
            address: SERVER,
            prefix_len: 24,
            lease_time: Duration::from_secs(3600),
            base_url: "http://10.42.0.1".to_owned(),
        });
        let leases = LeaseTable::new(FIRST..=Ipv4Addr::new(10, 42, 0, 199), SERVER);
        Self { dhcp, leases, now: Timestamp::default() }
    }

    fn send(&mut self, packet: &Packet) -> Option<(Packet, SocketAddrV4)> {
        self.dhcp.exchange(packet, &mut self.leases, &OneKnown, self.now).reply
    }
}

fn request(mac: MacAddress, kind: u8, ciaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Packet {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac.0);
    let mut list = Options::default();
    list.set(code::MESSAGE_TYPE, [kind]);
    for (code, value) in options {
        list.set(*code, *value);
    }
    Packet {
        op: Op::Request,
        htype: 1,
        hlen: 6,
        hops: 0,
        xid: 0x1234,
        secs: 0,
        flags: 0,
        ciaddr,
        yiaddr: NONE,
        siaddr: NONE,
        giaddr: NONE,
        chaddr,
        sname: Vec::new(),
        file: Vec::new(),
        options: list,
    }
}

fn kind_of(reply: &Packet) -> u8 {
    reply.options.get(code::MESSAGE_TYPE).unwrap()[0]
}

fn broadcast() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)
}

#[test]
fn a_stranger_gets_an_address_of_the_pool_in_two_steps() {
    let mut net = Net::new();
    let (offer, to) = net.send(&request(MAC, kind::DISCOVER, NONE, &[])).unwrap();
    assert_eq!((kind_of(&offer), offer.yiaddr, to), (kind::OFFER, FIRST, broadcast()));
    assert_eq!(net.leases.mac_at(FIRST), None);
    let wanted: &[(u8, &[u8])] =
        &[(code::SERVER_ID, &SERVER.octets()), (code::REQUESTED_ADDRESS, &FIRST.octets())];
    let (ack, _) = net.send(&request(MAC, kind::REQUEST, NONE, wanted)).unwrap();
    assert_eq!((kind_of(&ack), ack.yiaddr, ack.xid), (kind::ACK, FIRST, 0x1234));
    assert_eq!(ack.options.address(code::SUBNET_MASK), Some(Ipv4Addr::new(255, 255, 255, 0)));
    assert_eq!(ack.options.address(code::ROUTER), Some(SERVER));
    assert_eq!(ack.options.get(code::LEASE_TIME), Some(&3600u32.to_be_bytes()[..]));
    assert_eq!(ack.options.get(code::REBINDING_TIME), Some(&3150u32.to_be_bytes()[..]));
    assert!(ack.options.get(code::BOOT_FILE).is_none(), "no boot firmware");
    assert_eq!(net.leases.mac_at(FIRST), Some(MAC));
}

#[test]
fn a_known_client_gets_its_own_address_and_name() {
    let mut net = Net::new();
    let (offer, _) = net.send(&request(KNOWN, kind::DISCOVER, NONE, &[])).unwrap();
    assert_eq!(offer.yiaddr, Ipv4Addr::new(10, 42, 0, 66));
    assert_eq!(offer.options.get(code::HOST_NAME), Some(&b"gfx9-1"[..]));
}

#[test]
fn requests_in_every_state_are_acknowledged_refused_or_left_alone() {
    let other = Ipv4Addr::new(10, 42, 0, 9).octets();
    let (first, second) = (FIRST.octets(), Ipv4Addr::new(10, 42, 0, 101).octets());
    let server = SERVER.octets();
    let requested = code::REQUESTED_ADDRESS;
    /// What it does, whether it has a lease on the first address, `ciaddr`, options, the kind of reply.
    type Case<'a> = (&'a str, bool, Ipv4Addr, &'a [(u8, &'a [u8])], Option<u8>);
    let cases: &[Case<'_>] = &[
        ("chose another server", false, NONE, &[(code::SERVER_ID, &other), (requested, &first)], None),
        (
            "selects what it has",
            true,
            NONE,
            &[(code::SERVER_ID, &server), (requested, &first)],
            Some(kind::ACK),
        ),
        (
            "selects what is not its own",
            true,
            NONE,
            &[(code::SERVER_ID, &server), (requested, &second)],
            Some(kind::NAK),
        ),
        ("reboots with its address", true, NONE, &[(requested, &first)], Some(kind::ACK)),
        ("reboots with another address", true, NONE, &[(requested, &second)], Some(kind::NAK)),
        ("reboots from another network", false, NONE, &[(requested, &[192, 168, 1, 5])], Some(kind::NAK)),
        ("reboots after the server forgot", false, NONE, &[(requested, &second)], Some(kind::ACK)),
        ("renews", true, FIRST, &[], Some(kind::ACK)),
        ("renews what is reserved for another", false, Ipv4Addr::new(10, 42, 0, 66), &[], Some(kind::NAK)),
        ("asks for nothing", true, NONE, &[], None),
    ];
    for (what, has_lease, ciaddr, options, expected) in cases {
        let mut net = Net::new();
        if *has_lease {
            assert!(net.leases.take(MAC, FIRST, Duration::from_secs(3600), &OneKnown, net.now));
        }
        let reply = net.send(&request(MAC, kind::REQUEST, *ciaddr, options));
        assert_eq!(reply.as_ref().map(|(p, _)| kind_of(p)), *expected, "{what}");
        match reply {
            Some((packet, to)) if kind_of(&packet) == kind::NAK => {
                assert_eq!((to, packet.yiaddr), (broadcast(), NONE), "{what}");
            }
            Some((_, to)) if !ciaddr.is_unspecified() => assert_eq!(*to.ip(), *ciaddr, "{what}"),
            _ => {}
        }
    }
}

#[test]
fn a_released_address_can_go_to_another_and_comes_back_while_nobody_took_it() {
    let mut net = Net::new();
    net.send(&request(MAC, kind::REQUEST, FIRST, &[])).unwrap();
    assert_eq!(net.send(&request(MAC, kind::RELEASE, FIRST, &[])), None);
    let again = net.send(&request(MAC, kind::DISCOVER, NONE, &[])).unwrap().0;
    assert_eq!(again.yiaddr, FIRST);
}

#[test]
fn an_inform_is_answered_without_an_address_or_a_lease() {
    let own = Ipv4Addr::new(10, 42, 0, 20);
    let (ack, to) = Net::new().send(&request(MAC, kind::INFORM, own, &[])).unwrap();
    assert_eq!((kind_of(&ack), ack.yiaddr, to), (kind::ACK, NONE, SocketAddrV4::new(own, 68)));
    assert!(ack.options.get(code::LEASE_TIME).is_none());
    assert_eq!(ack.options.address(code::ROUTER), Some(SERVER));
}

#[test]
fn a_relay_gets_the_reply_and_must_broadcast_a_refusal() {
    let mut net = Net::new();
    let relay = Ipv4Addr::new(10, 42, 0, 250);
    let mut packet = request(MAC, kind::DISCOVER, NONE, &[]);
    packet.giaddr = relay;
    let (offer, to) = net.send(&packet).unwrap();
    assert_eq!((to, offer.giaddr), (SocketAddrV4::new(relay, 67), relay));
    let mut packet = request(MAC, kind::REQUEST, NONE, &[(code::REQUESTED_ADDRESS, &[192, 168, 1, 5])]);
    packet.giaddr = relay;
    let (nak, to) = net.send(&packet).unwrap();
    assert_eq!((to.port(), nak.flags & 0x8000), (67, 0x8000));
}

#[test]
fn ipxe_is_sent_to_its_script_and_told_not_to_wait_for_a_proxy() {
    let options: &[(u8, &[u8])] = &[(code::USER_CLASS, b"iPXE"), (code::CLIENT_ARCHITECTURE, &[0, 0])];
    let outcome = {
        let mut net = Net::new();
        net.dhcp.exchange(&request(MAC, kind::DISCOVER, NONE, options), &mut net.leases, &OneKnown, net.now)
    };
    let url = "http://10.42.0.1/boot/52:54:00:11:22:01/boot.ipxe?platform=${platform}&buildarch=${buildarch}";
    let (offer, _) = outcome.reply.unwrap();
    assert_eq!(offer.file, url.as_bytes());
    assert_eq!(offer.options.get(code::BOOT_FILE), Some(url.as_bytes()));
    assert_eq!(offer.options.get(code::IPXE), Some(&[176, 1, 1][..]));
    assert!(offer.options.get(code::VENDOR_CLASS).is_none());
    assert_eq!(
        outcome.seen,
        Some((MAC, Stage::DhcpDiscover { client: "iPXE, BIOS".to_owned(), boots: true }))
    );
}

#[test]
fn each_kind_of_firmware_gets_its_loader() {
    type Case<'a> = (&'a [u8], Option<&'a str>, Option<&'a [u8]>, Ipv4Addr);
    let cases: &[Case<'_>] = &[
        (&[0, 0], Some("undionly.kpxe"), Some(b"PXEClient"), SERVER),
        (&[0, 7], Some("snponly.efi"), Some(b"PXEClient"), SERVER),
        (&[0xff, 0xff, 0, 9], Some("snponly.efi"), Some(b"PXEClient"), SERVER),
        (&[0, 11], Some("arm64/snponly.efi"), Some(b"PXEClient"), SERVER),
        (&[0, 16], Some("http://10.42.0.1/boot/ipxe/snponly.efi"), Some(b"HTTPClient"), NONE),
        (&[0, 22], None, None, NONE),
        (&[0xff, 0xff], None, None, NONE),
    ];
    let uuid: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    for (architecture, file, class, next) in cases {
        let options: &[(u8, &[u8])] = &[(code::CLIENT_ARCHITECTURE, architecture), (code::CLIENT_UUID, uuid)];
        let (offer, _) = Net::new().send(&request(MAC, kind::DISCOVER, NONE, options)).unwrap();
        assert_eq!(offer.options.get(code::BOOT_FILE), file.map(str::as_bytes), "{architecture:?}");
        assert_eq!(offer.options.get(code::VENDOR_CLASS), *class, "{architecture:?}");
        assert_eq!(offer.siaddr, *next, "{architecture:?}");
        assert_eq!(offer.options.get(code::CLIENT_UUID), Some(uuid));
        assert!(offer.encode().len() <= 548, "fits the smallest packet that every client takes");
    }
}

proptest! {
    #[test]
    fn no_packet_stops_the_server(
        op in any::<bool>(), addresses in any::<[[u8; 4]; 2]>(),
        options in prop::collection::vec((1u8..255, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        kind in 0u8..12,
    ) {
        let mut packet = request(MAC, kind, Ipv4Addr::from(addresses[0]), &[]);
        packet.giaddr = Ipv4Addr::from(addresses[1]);
        packet.op = if op { Op::Request } else { Op::Reply };
        for (code, value) in options {
            packet.options.append(code, &value);
        }
        if let Some((reply, _)) = Net::new().send(&packet) {
            prop_assert!(Packet::decode(&reply.encode()).is_ok());
        }
    }
}
