//! The DHCP server's decisions: what a request gets back, if anything (RFC 2131 section 4.3).
//!
//! The server is the only one on its network and speaks with authority: a client with an address that it should
//! not have is told so (NAK) and starts over at once.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use farmgate_protocol::{MacAddress, Timestamp};

use super::{
    firmware::{Client, Loader},
    leases::LeaseTable,
    options::code,
    packet::{Op, Packet},
};
use crate::{BootDirectory, Stage};

/// Message types, option 53.
mod kind {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const DECLINE: u8 = 4;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const RELEASE: u8 = 7;
    pub const INFORM: u8 = 8;
}

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What the server says of its network.
#[derive(Debug, Clone)]
pub struct DhcpSettings {
    /// The gateway's address: server, router, name server and TFTP server.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix_len: u8,
    /// How long an address is given for.
    pub lease_time: Duration,
    /// Where scripts and HTTP boot files are served, without a slash at the end: `http://10.42.0.1`.
    pub base_url: String,
}

/// What a request leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The reply and where it goes.
    pub reply: Option<(Packet, SocketAddrV4)>,
    /// What to report, and of whom.
    pub seen: Option<(MacAddress, Stage)>,
}

/// The server's decisions. Leases and the directory are handed in with each request.
#[derive(Debug, Clone)]
pub struct Dhcp {
    settings: DhcpSettings,
}

/// One request with all that is needed to answer it.
struct Exchange<'a> {
    settings: &'a DhcpSettings,
    request: &'a Packet,
    mac: MacAddress,
    leases: &'a mut LeaseTable,
    directory: &'a dyn BootDirectory,
    now: Timestamp,
}

impl Dhcp {
    /// A server for one network.
    pub fn new(settings: DhcpSettings) -> Self {
        Self { settings }
    }

    /// Answers one packet. Replies, BOOTP packets and clients without an Ethernet address get nothing.
    pub fn exchange(
        &self,
        request: &Packet,
        leases: &mut LeaseTable,
        directory: &dyn BootDirectory,
        now: Timestamp,
    ) -> Outcome {
        let (Op::Request, Some(mac)) = (request.op, request.mac()) else { return Outcome::default() };
        let kind = request.options.get(code::MESSAGE_TYPE).and_then(|v| v.first().copied());
        let mut exchange = Exchange { settings: &self.settings, request, mac, leases, directory, now };
        match kind {
            Some(kind::DISCOVER) => exchange.discover(),
            Some(kind::REQUEST) => exchange.request(),
            Some(kind::INFORM) => exchange.inform(),
            Some(kind::RELEASE) => {
                exchange.leases.release(mac, request.ciaddr, now);
                Outcome::default()
            }
            Some(kind::DECLINE) => {
                exchange.decline();
                Outcome::default()
            }
            _ => Outcome::default(),
        }
    }
}

impl Exchange<'_> {
    fn discover(&mut self) -> Outcome {
        let client = Client::of(self.request);
        let seen = Some((self.mac, Stage::DhcpDiscover { client: client.words(), boots: client.boots() }));
        let wish = self.request.options.address(code::REQUESTED_ADDRESS);
        let Some(address) = self.leases.offer(self.mac, wish, self.directory, self.now) else {
            tracing::warn!(mac = %self.mac, "no address left in the DHCP pool");
            return Outcome { reply: None, seen };
        };
        let mut reply = self.reply(kind::OFFER);
        reply.yiaddr = address;
        self.add_lease(&mut reply);
        self.add_network(&mut reply);
        self.add_boot(&mut reply, &client);
        Outcome { reply: Some((reply, self.destination())), seen }
    }

    fn request(&mut self) -> Outcome {
        let options = &self.request.options;
        let (server, requested) =
            (options.address(code::SERVER_ID), options.address(code::REQUESTED_ADDRESS));
        let address = match (server, requested) {
            // It took another server's offer.
            (Some(server), _) if server != self.settings.address => {
                self.leases.withdraw(self.mac, self.now);
                return Outcome::default();
            }
            // SELECTING and INIT-REBOOT name the address in the option, RENEWING and REBINDING in the header.
            (_, Some(requested)) => requested,
            (_, None) if !self.request.ciaddr.is_unspecified() => self.request.ciaddr,
            _ => return Outcome::default(),
        };
        let duration = self.settings.lease_time;
        if !self.leases.take(self.mac, address, duration, self.directory, self.now) {
            return self.refuse(address);
        }
        let mut reply = self.reply(kind::ACK);
        reply.ciaddr = self.request.ciaddr;
        reply.yiaddr = address;
        self.add_lease(&mut reply);
        self.add_network(&mut reply);
        self.add_boot(&mut reply, &Client::of(self.request));
        Outcome {
            reply: Some((reply, self.destination())),
            seen: Some((self.mac, Stage::DhcpAck { address })),
        }
    }

    /// The client has an address by other means and wants the rest.
    fn inform(&mut self) -> Outcome {
        let mut reply = self.reply(kind::ACK);
        reply.ciaddr = self.request.ciaddr;
        self.add_network(&mut reply);
        self.add_boot(&mut reply, &Client::of(self.request));
        Outcome { reply: Some((reply, self.destination())), seen: None }
    }

    fn decline(&mut self) {
        let Some(address) = self.request.options.address(code::REQUESTED_ADDRESS) else { return };
        if self.leases.decline(self.mac, address, self.now) {
            tracing::warn!(mac = %self.mac, %address, "client found its address in use by another machine");
        }
    }

    fn refuse(&self, address: Ipv4Addr) -> Outcome {
        tracing::info!(mac = %self.mac, %address, "refusing an address that is not this client's");
        let mut reply = self.reply(kind::NAK);
        reply.options.set(code::MESSAGE, *b"this address is not yours here");
        let to = if self.request.giaddr.is_unspecified() {
            // Even a client that renews by unicast may not be reachable at the address that it must give up.
            SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
        } else {
            // The client's network does not know it: only a broadcast by the relay gets there.
            reply.flags |= 0x8000;
            SocketAddrV4::new(self.request.giaddr, SERVER_PORT)
        };
        Outcome { reply: Some((reply, to)), seen: None }
    }

    fn destination(&self) -> SocketAddrV4 {
        if !self.request.giaddr.is_unspecified() {
            SocketAddrV4::new(self.request.giaddr, SERVER_PORT)
        } else if !self.request.ciaddr.is_unspecified() {
            SocketAddrV4::new(self.request.ciaddr, CLIENT_PORT)
        } else {
            SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
        }
    }

    fn reply(&self, kind: u8) -> Packet {
        let mut reply = Packet::reply_to(self.request);
        reply.options.set(code::MESSAGE_TYPE, [kind]);
        reply.options.set(code::SERVER_ID, self.settings.address.octets());
        // RFC 4578 section 2.3: the client's UUID comes back as it was.
        if let Some(uuid) = self.request.options.get(code::CLIENT_UUID).filter(|uuid| uuid.len() <= 17) {
            reply.options.set(code::CLIENT_UUID, uuid);
        }
        reply
    }

    fn add_lease(&self, reply: &mut Packet) {
        let seconds = u32::try_from(self.settings.lease_time.as_secs()).unwrap_or(u32::MAX);
        reply.options.set(code::LEASE_TIME, seconds.to_be_bytes());
        // The defaults of RFC 2131 section 4.4.5, said aloud: a half and seven eighths.
        reply.options.set(code::RENEWAL_TIME, (seconds / 2).to_be_bytes());
        reply.options.set(code::REBINDING_TIME, (seconds - seconds / 8).to_be_bytes());
    }

    fn add_network(&self, reply: &mut Packet) {
        let own = self.settings.address.octets();
        let mask = u32::MAX.checked_shl(32 - u32::from(self.settings.prefix_len.min(32))).unwrap_or(0);
        reply.options.set(code::SUBNET_MASK, mask.to_be_bytes());
        reply.options.set(code::ROUTER, own);
        reply.options.set(code::DNS, own);
        let name = self.directory.reservation(self.mac).and_then(|r| r.host_name);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            reply.options.set(code::HOST_NAME, &name.as_bytes()[..name.len().min(63)]);
        }
    }

    fn add_boot(&self, reply: &mut Packet, client: &Client) {
        let base = &self.settings.base_url;
        match client {
            Client::Ipxe(_) => {
                let mac = self.mac;
                // iPXE fills in the settings itself: file names that come by DHCP are expanded.
                let url =
                    format!("{base}/boot/{mac}/boot.ipxe?platform=${{platform}}&buildarch=${{buildarch}}");
                set_boot_file(reply, &url);
                // Sub-option 176 (no-pxedhcp) = 1: do not wait for a ProxyDHCP server, there is none.
                reply.options.set(code::IPXE, [176, 1, 1]);
            }
            Client::Firmware(firmware) => match firmware.loader {
                Loader::Tftp(file) => {
                    reply.siaddr = self.settings.address;
                    reply.options.set(code::VENDOR_CLASS, *b"PXEClient");
                    // Discovery control 8: take the boot file from this packet, search no boot servers.
                    reply.options.set(code::VENDOR_SPECIFIC, [6, 1, 8, code::END]);
                    reply.options.set(code::TFTP_SERVER, self.settings.address.to_string());
                    set_boot_file(reply, file);
                }
                Loader::Http(file) => {
                    // Without this word UEFI takes the answer for one that is not about HTTP boot.
                    reply.options.set(code::VENDOR_CLASS, *b"HTTPClient");
                    set_boot_file(reply, &format!("{base}/boot/ipxe/{file}"));
                }
                Loader::None => {}
            },
            Client::UnknownFirmware(architectures) => {
                tracing::warn!(mac = %self.mac, ?architectures, "no boot loader is known for this firmware");
            }
            Client::Other(_) => {}
        }
    }
}

/// Some firmware reads only the header's field, some only the option.
fn set_boot_file(reply: &mut Packet, file: &str) {
    // The field needs a zero behind the name.
    if file.len() < 128 {
        reply.file = file.as_bytes().to_vec();
    }
    reply.options.set(code::BOOT_FILE, file);
}

#[cfg(test)]
mod tests;
