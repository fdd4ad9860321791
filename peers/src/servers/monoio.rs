//! monoio: io_uring, which takes the buffer along while an operation is under way.

use std::io;

use monoio::{
    IoUringDriver, RuntimeBuilder,
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
    time,
};

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen},
    mode::{Mode, reply},
};

pub(super) fn run(mode: Mode) -> io::Result<()> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| io::Error::other(format!("the kernel refuses io_uring: {error}")))?;
    runtime.block_on(accept(mode))
}

async fn accept(mode: Mode) -> io::Result<()> {
    let listener = TcpListener::from_std(listen()?)?;
    announce(listener.local_addr()?)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                monoio::spawn(serve(stream, mode));
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
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (received, filled) = stream.read(buffer).await;
        if received? == 0 {
            return stream.shutdown().await;
        }
        let (sent, empty) = stream.write_all(filled).await;
        sent?;
        buffer = empty;
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.read(Vec::with_capacity(BUFFER_BYTES)).await.0?;
    stream.write_all(reply()).await.0?;
    stream.shutdown().await
}
