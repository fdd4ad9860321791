//! Listening on a path: its file is made, replaced and removed with care.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket, by its inode: someone may have put another in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// That of a socket that is bound to this path, or was: as its process has seen it.
    #[cfg(feature = "ops")]
    pub(crate) fn known(path: &Path, (device, inode): (u64, u64)) -> Self {
        Self { path: path.to_owned(), device, inode }
    }

    /// Which file it is, on its system.
    #[cfg(feature = "ops")]
    pub(crate) const fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The one that is there now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no socket"));
        }
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// To be called as long as the socket is open: no other file can get its inode before it is closed. Waits for nobody.
    pub(super) fn remove(&self) {
        let _lock = lock_directory(&self.path, Duration::ZERO);
        let is_ours = |found: fs::Metadata| found.dev() == self.device && found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A socket that listens on `path`, and its file. Whoever may write to the file may connect: `mode` says who, or the umask.
pub(super) fn bind(path: &Path, backlog: i32, mode: Option<u32>) -> io::Result<(Socket, SocketFile)> {
    // Until it listens: of several servers that find a stale file, or none, one is the first.
    let _lock = lock_directory(path, LOCK_TIMEOUT);
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    if let Some(mode) = mode {
        // Nobody can connect before it listens.
        fs::set_permissions(path, Permissions::from_mode(mode)).inspect_err(|_| file.remove())?;
    }
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// How long another server may take to replace a socket file in the same directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Holds other servers off that make or remove a socket file in the same directory, until it is dropped: flock(2). Where
/// the directory cannot be locked there is no lock.
#[expect(clippy::disallowed_methods, reason = "nobody tells when another process has let it go")]
fn lock_directory(path: &Path, patience: Duration) -> Option<fs::File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::File::open(parent.unwrap_or(Path::new("."))).ok()?;
    let mut left = patience;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK) if !left.is_zero() => {
                let pause = Duration::from_millis(5).min(left);
                thread::sleep(pause);
                left -= pause;
            }
            Err(error) => {
                log::debug!("cannot lock the directory of {}: {error}", path.display());
                return None;
            }
        }
    }
}

/// Removes a socket file on which nobody listens any more. Anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            log::info!("replacing the stale socket {}", path.display());
            fs::remove_file(path)
        }
        // Connected, or a backlog so full that the probe would have to wait: someone listens.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}
