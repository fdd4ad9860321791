//! smol: async-io's reactor and an executor on one thread. Its `read` needs a buffer that is zeroed, which makes more of
//! it resident than is used.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
};

use smol::{
    Async, LocalExecutor, Timer,
    io::{AsyncReadExt, AsyncWriteExt},
};

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen},
    mode::{Mode, reply},
};

pub(super) fn run(mode: Mode) -> io::Result<()> {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(accept(&executor, mode)))
}

async fn accept(executor: &LocalExecutor<'_>, mode: Mode) -> io::Result<()> {
    let listener = Async::<TcpListener>::new(listen()?)?;
    announce(listener.get_ref().local_addr()?)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => executor.spawn(serve(stream, mode)).detach(),
            Err(_) => {
                Timer::after(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: Async<TcpStream>, mode: Mode) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    match mode {
        Mode::Echo => echo(stream).await,
        Mode::Reply => answer(stream).await,
    }
}

async fn echo(mut stream: Async<TcpStream>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.get_ref().shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

async fn answer(mut stream: Async<TcpStream>) -> io::Result<()> {
    stream.read(&mut vec![0; BUFFER_BYTES]).await?;
    stream.write_all(&reply()).await?;
    stream.get_ref().shutdown(Shutdown::Write)
}
