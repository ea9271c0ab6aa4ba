//! Taking clients in: what comes to a listener is counted, greeted where it speaks TLS, and handed to a worker. It must
//! never wait for one client.

use crate::listen::Port;
use crate::listen::access::gate::Shed;
use crate::tls::accept::MOST_HANDSHAKES;
use crate::tls::{Arrival, Terminator};
use crate::worker::{Mail, Mailbox};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

pub(super) async fn accept(
    socket: TcpListener,
    port: Arc<Port>,
    terminator: Option<Arc<Terminator>>,
    mailboxes: Arc<[Arc<Mailbox>]>,
) {
    let mut handshakes = Handshakes::default();
    let mut turn = 0;
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; those who wait in the backlog get their turn.
                tracing::warn!(listener = port.name, %error, "cannot accept a client");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if port.clients.fetch_add(1, Ordering::Relaxed) >= port.max_clients {
            port.clients.fetch_sub(1, Ordering::Relaxed);
            port.gate.shed(Shed::MaxClients);
            if terminator.is_none() {
                let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            }
            continue;
        }
        let seat = Seat(Some(port.clone()));
        let mailbox = mailboxes[turn].clone();
        match &terminator {
            Some(terminator) => handshakes.begin(terminator.clone(), stream, seat, mailbox),
            None => seat.take(Arrival::new(stream, None).ok(), &mailbox),
        }
        turn = (turn + 1) % mailboxes.len();
    }
}

/// One of the clients that a listener may have; given back unless it is taken.
struct Seat(Option<Arc<Port>>);

impl Seat {
    fn take(mut self, arrival: Option<Arrival>, mailbox: &Mailbox) {
        if let Some(arrival) = arrival
            && let Some(port) = self.0.take()
        {
            mailbox.post(Mail::Accept(arrival, port));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(port) = &self.0 {
            port.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The handshakes of one listener that are under way, the oldest first.
#[derive(Default)]
struct Handshakes {
    running: JoinSet<()>,
    order: VecDeque<AbortHandle>,
}

impl Handshakes {
    /// Begins one. Those who say nothing must not keep others out: when there are too many, the oldest goes.
    fn begin(&mut self, terminator: Arc<Terminator>, stream: TcpStream, seat: Seat, mailbox: Arc<Mailbox>) {
        while self.running.try_join_next().is_some() {}
        if self.order.len() >= 2 * MOST_HANDSHAKES || self.running.len() >= MOST_HANDSHAKES {
            self.order.retain(|handshake| !handshake.is_finished());
        }
        if self.running.len() >= MOST_HANDSHAKES
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
            terminator.crowded();
        }
        let handshake = async move { seat.take(terminator.greet(stream).await, &mailbox) };
        self.order.push_back(self.running.spawn(handshake));
    }
}
