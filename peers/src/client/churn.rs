//! Connections that come and go: connect, one message, half-close, read to the end, close.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use mio::{Events, Poll};
use rustls::ClientConfig;

use crate::client::{
    group::Tally,
    tls::{self, Keys},
    visitor::Visitors,
};

/// How long a server may do nothing at all before the client gives up.
pub(super) const STALL: Duration = Duration::from_secs(10);

/// Makes `total` connections, `parallel` at a time, each with a message of `size` bytes.
pub(crate) fn churn(
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    parallel: usize,
    total: usize,
    size: usize,
) -> io::Result<Tally> {
    let (tally, _) = visit(&mut Visitors::new(address, tls, size, 0), parallel, total)?;
    Ok(tally)
}

/// Visitors over TLS that resume sessions. `begin` is called when those have been there that bring the first tickets.
pub(crate) fn churn_resumed<T>(
    address: SocketAddr,
    parallel: usize,
    total: usize,
    size: usize,
    begin: impl FnOnce() -> io::Result<T>,
) -> io::Result<(T, Tally)> {
    let mut visitors = Visitors::new(address, Some(tls::config(Keys::Resumed)?), size, 0);
    // Those that come at once need a ticket each, and the first of these find none.
    visit(&mut visitors, parallel, 2 * parallel)?;
    let begun = begin()?;
    let (tally, resumed) = visit(&mut visitors, parallel, total)?;
    if resumed < tally.messages {
        return Err(io::Error::other(format!("{resumed} of {} sessions were resumed", tally.messages)));
    }
    Ok((begun, tally))
}

fn visit(visitors: &mut Visitors, parallel: usize, total: usize) -> io::Result<(Tally, u64)> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(parallel);
    let mut come = parallel.min(total);
    for _ in 0..come {
        visitors.come(poll.registry())?;
    }
    while visitors.served() < total as u64 {
        poll.poll(&mut events, Some(STALL))?;
        if events.is_empty() {
            return Err(io::Error::other("nothing came for 10 s"));
        }
        for event in &events {
            if visitors.go_on(event.token().0)? && come < total {
                visitors.come(poll.registry())?;
                come += 1;
            }
        }
    }
    Ok(visitors.take_tally())
}
