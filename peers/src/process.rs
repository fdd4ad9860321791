//! A peer as a process of its own, pinned to a core.

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

use crate::{
    client::pacer::Idling,
    servers::{Peer, mode::Mode},
};

/// The option with which this executable becomes a peer: `--serve NAME MODE CORE DESCRIPTORS`, where DESCRIPTORS is
/// `-` to have as many as there may be.
pub(crate) const SERVE: &str = "--serve";

/// On how many processors server and client run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoreCount {
    One,
    Two,
}

/// The processors for the server and the client, which may be the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    server: usize,
    client: usize,
}

impl Cores {
    /// The first ones that this process may use; one where there are no two.
    ///
    /// # Errors
    ///
    /// The kernel does not say which ones those are.
    pub(crate) fn choose(count: CoreCount) -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = cores.next().ok_or_else(|| io::Error::other("no processor may be used"))?;
        let client = match count {
            CoreCount::One => server,
            CoreCount::Two => cores.next().unwrap_or(server),
        };
        Ok(Self { server, client })
    }

    pub(crate) const fn count(self) -> CoreCount {
        if self.server == self.client { CoreCount::One } else { CoreCount::Two }
    }

    /// The server's.
    pub(crate) const fn server(self) -> usize {
        self.server
    }

    /// Puts this process on the client's.
    pub(crate) fn pin_client(self) -> io::Result<()> {
        pin(self.client)
    }

    /// What the client does when it has nothing to do.
    pub(crate) const fn idling(self) -> Idling {
        match self.count() {
            CoreCount::One => Idling::Yield,
            CoreCount::Two => Idling::Spin,
        }
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
    /// Starts `peer` on a core and waits until it listens. `descriptors` is its `ulimit -n`, if it is to have one.
    ///
    /// # Errors
    ///
    /// Why it does not listen.
    pub(crate) fn start(
        peer: &Peer,
        mode: Mode,
        core: usize,
        descriptors: Option<u64>,
    ) -> Result<Self, String> {
        let mode = match mode {
            Mode::Echo => "echo",
            Mode::Reply => "reply",
        };
        let descriptors = descriptors.map_or("-".into(), |limit| limit.to_string());
        let mut command = Command::new(env::current_exe().map_err(|error| format!("current_exe: {error}"))?);
        command.args([SERVE, peer.name, mode, &core.to_string(), &descriptors]);
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
    pin(core.parse().map_err(io::Error::other)?)?;
    if let Ok(limit) = descriptors.parse() {
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    } else {
        echoloop::raise_descriptor_limit()?;
    }
    Ok(())
}
