//! A peer as a process of its own, on a core of its own.

use std::{
    env,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
};

use rustix::{
    process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::servers::{Peer, mode::Mode};

/// The option with which this executable becomes a peer: `--serve NAME MODE CORE DESCRIPTORS`, where a word of `-`
/// leaves things as they are.
pub(crate) const SERVE: &str = "--serve";

/// The processors for the server and the client. None where there is but one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    server: usize,
    client: usize,
}

impl Cores {
    /// The first two that this process may use.
    pub(crate) fn choose() -> Option<Self> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        Some(Self { server: cores.next()?, client: cores.next()? })
    }

    /// Puts this process on the client's.
    pub(crate) fn pin_client(self) -> io::Result<()> {
        pin(self.client)
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// A running peer. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts `peer` and waits until it listens. `descriptors` is its `ulimit -n`, if it is to have one.
    ///
    /// # Errors
    ///
    /// Why it does not listen.
    pub(crate) fn start(
        peer: &Peer,
        mode: Mode,
        cores: Option<Cores>,
        descriptors: Option<u64>,
    ) -> Result<Self, String> {
        let mode = match mode {
            Mode::Echo => "echo",
            Mode::Reply => "reply",
        };
        let core = cores.map_or("-".into(), |cores| cores.server.to_string());
        let descriptors = descriptors.map_or("-".into(), |limit| limit.to_string());
        let mut command = Command::new(env::current_exe().map_err(|error| format!("current_exe: {error}"))?);
        command.args([SERVE, peer.name, mode, &core, &descriptors]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        let mut line = String::new();
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        match line.trim_end().strip_prefix("listening on ").map(str::parse) {
            Some(Ok(address)) => Ok(Self { child, address }),
            Some(Err(_)) | None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(if line.is_empty() {
                    format!("it said nothing: {said:?}")
                } else {
                    line.trim_end().into()
                })
            }
        }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the executable does when it is started by [`Process::start`], with the words behind [`SERVE`].
pub(crate) fn serve(words: &[String]) -> ExitCode {
    let error = match words {
        [name, mode, core, descriptors] => match Peer::named(name) {
            Some(peer) => prepare(core, descriptors)
                .err()
                .unwrap_or_else(|| peer.serve(if mode == "reply" { Mode::Reply } else { Mode::Echo })),
            None => io::Error::other("there is no such peer"),
        },
        _ => io::Error::other("wrong arguments"),
    };
    // The parent takes this line, where it expects an address, for the reason.
    println!("{error}");
    ExitCode::FAILURE
}

fn prepare(core: &str, descriptors: &str) -> io::Result<()> {
    // However the parent ends.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Ok(core) = core.parse() {
        pin(core)?;
    }
    if let Ok(limit) = descriptors.parse() {
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    } else {
        echoloop::raise_descriptor_limit()?;
    }
    Ok(())
}
