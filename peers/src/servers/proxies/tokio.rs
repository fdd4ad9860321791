//! tokio: a task per connection with `copy_bidirectional`, and a buffer for each direction.

use std::{
    io,
    net::{self, SocketAddr},
};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    runtime::Builder,
    time,
};

use crate::servers::common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen_nonblocking};

pub(super) fn run(upstream: SocketAddr) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = listen_nonblocking()?;
    announce(listener.local_addr()?)?;
    runtime.block_on(accept(listener, upstream))
}

async fn accept(listener: net::TcpListener, upstream: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(forward(client, upstream));
            }
            Err(_) => time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn forward(mut client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}
