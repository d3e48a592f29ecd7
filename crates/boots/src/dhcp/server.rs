//! The socket of the DHCP server: reads requests, asks [`Dhcp`], sends what it says.

use std::{net::SocketAddr, sync::Arc};

use farmgate_protocol::Timestamp;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{Dhcp, Leases, Packet};
use crate::{BootDirectory, Sighting, socket};

/// Answers requests until it is told to stop.
pub(crate) async fn serve(
    socket: UdpSocket,
    dhcp: Dhcp,
    leases: Leases,
    directory: Arc<dyn BootDirectory>,
    shutdown: CancellationToken,
) {
    // No request is longer than an Ethernet frame; what is, is cut and then refused as malformed.
    let mut buffer = [0; 2048];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((length, from)) => answer(&socket, &dhcp, &leases, &*directory, &buffer[..length], from).await,
            // Errors of earlier sends surface here (an ICMP message came back); the socket itself stays good.
            Err(error) => {
                tracing::debug!(%error, "DHCP receive failed");
                tokio::time::sleep(socket::PAUSE).await;
            }
        }
    }
}

async fn answer(
    socket: &UdpSocket,
    dhcp: &Dhcp,
    leases: &Leases,
    directory: &dyn BootDirectory,
    bytes: &[u8],
    from: SocketAddr,
) {
    let request = match Packet::decode(bytes) {
        Ok(request) => request,
        Err(error) => return tracing::debug!(%error, %from, "not a DHCP packet"),
    };
    let now = Timestamp::now();
    let outcome = dhcp.exchange(&request, &mut leases.lock(), directory, now);
    if let Some((reply, to)) = outcome.reply
        && let Err(error) = socket.send_to(&reply.encode(), to).await
    {
        tracing::warn!(%error, %to, "DHCP reply could not be sent");
    }
    if let Some((mac, stage)) = outcome.seen {
        tracing::debug!(%mac, ?stage, "DHCP");
        directory.saw(Sighting { mac, time: now, stage });
    }
}
