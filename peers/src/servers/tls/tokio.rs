//! tokio-rustls as its documentation shows it: a task and a buffer per connection.

use std::{io, net, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    time,
};
use tokio_rustls::TlsAcceptor;

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen_nonblocking},
    tls::default_config,
};

pub(super) fn run() -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(default_config()?));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = listen_nonblocking()?;
    announce(listener.local_addr()?)?;
    // In a task, as the peers on plain TCP.
    runtime.block_on(async move { tokio::spawn(accept(listener, acceptor)).await })?
}

async fn accept(listener: net::TcpListener, acceptor: TlsAcceptor) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, acceptor.clone()));
            }
            Err(_) => time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        stream.flush().await?;
        buffer.clear();
    }
    stream.shutdown().await
}
