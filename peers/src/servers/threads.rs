//! The plainest server: std, blocking, a thread per connection. It ends as the tutorial has it: shutdown, receive to
//! the end, close.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use crate::servers::{
    common::{ACCEPT_RETRY, BUFFER_BYTES, announce, listen},
    mode::{Mode, reply},
};

pub(super) fn run(mode: Mode) -> io::Result<()> {
    let listener = listen()?;
    announce(listener.local_addr()?)?;
    loop {
        let served = listener
            .accept()
            .and_then(|(stream, _)| thread::Builder::new().spawn(move || serve(stream, mode)));
        if served.is_err() {
            thread::sleep(ACCEPT_RETRY);
        }
    }
}

fn serve(mut stream: TcpStream, mode: Mode) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match mode {
        Mode::Echo => echo(&mut stream)?,
        Mode::Reply => answer(&mut stream)?,
    }
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n])?;
    }
}

fn answer(stream: &mut TcpStream) -> io::Result<()> {
    if stream.read(&mut [0; 4096])? == 0 {
        return Ok(());
    }
    stream.write_all(&reply())
}
