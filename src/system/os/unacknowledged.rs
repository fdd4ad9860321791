//! The one question that no crate asks safely: what has the peer's system not acknowledged yet?

use mio::net::TcpStream;

/// How many bytes the peer's system has not acknowledged; `None` where this system cannot say.
///
/// Linux counts our FIN as one: `SIOCOUTQ` of tcp(7), also known as `TIOCOUTQ`. Apple's systems do not: `SO_NWRITE` of
/// their `sys/socket.h`.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[expect(
    unsafe_code,
    reason = "no well-kept crate has a safe function for it; rustix, socket2, nix were looked at"
)]
pub(super) fn unacknowledged(stream: &TcpStream) -> Option<usize> {
    use std::os::fd::AsRawFd;
    let socket = stream.as_raw_fd();
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed. The kernel writes one int, to a variable of this function.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let status = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    #[cfg(target_vendor = "apple")]
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>()).ok()?;
    // SAFETY: as above; it writes as much as `size` says, the size of an int, and then how much that was.
    #[cfg(target_vendor = "apple")]
    let status = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_NWRITE);
        libc::getsockopt(socket, level, option, (&raw mut bytes).cast(), &raw mut size)
    };
    if status == 0 { usize::try_from(bytes).ok() } else { None }
}

/// This system cannot say.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn unacknowledged(_: &TcpStream) -> Option<usize> {
    None
}

#[cfg(all(test, any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
#[expect(clippy::disallowed_methods, reason = "a real socket takes real time")]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn what_the_peers_system_has_no_room_for_is_unacknowledged_until_the_peer_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut ours = TcpStream::from_std(ours);
        assert_eq!(unacknowledged(&ours), Some(0));
        let mut sent = 0;
        while let Ok(n) = ours.write(&[0; 1 << 16]) {
            sent += n;
        }
        let stuck = unacknowledged(&ours).unwrap();
        assert!(stuck > 0 && stuck < sent, "{stuck} of {sent}");
        let read = std::io::copy(&mut peer.take(sent as u64), &mut std::io::sink()).unwrap();
        assert_eq!(read, sent as u64);
        // The last acknowledgement may be a delayed one: 40 ms on Linux.
        let begin = Instant::now();
        while unacknowledged(&ours) != Some(0) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", unacknowledged(&ours));
            std::thread::yield_now();
        }
    }
}
