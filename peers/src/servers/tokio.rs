//! tokio: a task and a buffer per connection.

use std::{io, net};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    time,
};

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen_nonblocking},
    mode::{Mode, reply},
};

pub(super) fn current_thread(mode: Mode) -> io::Result<()> {
    run(&Builder::new_current_thread().enable_all().build()?, mode)
}

/// As many workers as the process may use processors, which is tokio's default.
pub(super) fn multi_thread(mode: Mode) -> io::Result<()> {
    run(&Builder::new_multi_thread().enable_all().build()?, mode)
}

fn run(runtime: &Runtime, mode: Mode) -> io::Result<()> {
    let listener = listen_nonblocking()?;
    announce(listener.local_addr()?)?;
    // In a task, as what runs in `block_on` itself is not on a worker.
    runtime.block_on(async move { tokio::spawn(accept(listener, mode)).await })?
}

async fn accept(listener: net::TcpListener, mode: Mode) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, mode));
            }
            Err(_) => time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn serve(stream: TcpStream, mode: Mode) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match mode {
        Mode::Echo => echo(stream).await,
        Mode::Reply => answer(stream).await,
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    stream.shutdown().await
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.read_buf(&mut Vec::with_capacity(BUFFER_BYTES)).await?;
    stream.write_all(&reply()).await?;
    stream.shutdown().await
}
