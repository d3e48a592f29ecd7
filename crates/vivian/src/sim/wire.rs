//! The vPDU protocol in front of simulated outlets: one request of four bytes a connection. A PDU that is unreachable
//! takes connections and closes them without an answer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use farmgate_protocol::vpdu::{Reply, Request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::World;

/// How long a client may take for its four bytes.
const PATIENCE: Duration = Duration::from_secs(5);

/// One simulated PDU.
#[derive(Debug)]
pub(super) struct Pdu {
    /// The machine at its first outlet; the others follow.
    first: u32,
    /// Outlets.
    count: u8,
    /// It does not answer until then.
    away: Mutex<Option<Instant>>,
}

impl Pdu {
    pub fn new(first: u32, count: u8) -> Self {
        Self { first, count, away: Mutex::new(None) }
    }

    /// It does not answer for so long.
    pub fn go_away(&self, time: Duration) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    fn is_away(&self) -> bool {
        let until = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, world: Arc<World>) {
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (pdu, world) = (Arc::clone(&self), Arc::clone(&world));
                    clients.spawn(async move { pdu.client(stream, &world).await });
                }
                Err(error) => {
                    // Out of descriptors, most likely: give those in use time to be closed.
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn client(&self, mut stream: TcpStream, world: &Arc<World>) {
        let mut request = [0; 4];
        if self.is_away() || !matches!(timeout(PATIENCE, stream.read_exact(&mut request)).await, Ok(Ok(_))) {
            return;
        }
        let answer = match Request::decode(request) {
            Ok(Request::NumPorts) => self.count,
            Ok(Request::On(port)) => self.switch(world, port, true).await as u8,
            Ok(Request::Off(port)) => self.switch(world, port, false).await as u8,
            Ok(Request::Status(port)) => match self.dut(port) {
                Some(dut) if world.outlet(dut).is_on() => Reply::On as u8,
                Some(_) => Reply::Off as u8,
                None => Reply::BadRequest as u8,
            },
            // It ends with the process, not by a request.
            Ok(Request::Shutdown) | Err(_) => Reply::BadRequest as u8,
        };
        if self.is_away() {
            return;
        }
        // A client that left does not want its answer.
        let _ = stream.write_all(&[answer]).await;
    }

    fn dut(&self, port: u16) -> Option<u32> {
        (port < u16::from(self.count)).then(|| self.first + u32::from(port))
    }

    async fn switch(&self, world: &Arc<World>, port: u16, on: bool) -> Reply {
        match self.dut(port) {
            Some(dut) => world.outlet(dut).command(world, dut, on).await,
            None => Reply::BadRequest,
        }
    }
}
