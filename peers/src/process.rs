//! A peer as a process of its own, pinned to a core.

use std::{
    env,
    io::{self, BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{
        Pid, Resource, Rlimit, Signal, kill_process_group, set_parent_process_death_signal, setrlimit,
    },
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{
    client::pacer::Idling,
    servers::{Peer, proxies::installed::complaint, task::Task},
};

/// The option with which this executable becomes a peer: `--serve NAME TASK CORE DESCRIPTORS`, where DESCRIPTORS is
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

    /// The client's, and that of the echo server behind a proxy.
    pub(crate) const fn client(self) -> usize {
        self.client
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

/// A running peer. Dropping it kills it and all processes that it has forked.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

/// How often a peer is started whose port may be taken before it listens.
const ATTEMPTS: usize = 3;

/// How long such a peer has until it accepts, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);

impl Process {
    /// Starts `peer` on a core and waits until it listens. `descriptors` is its `ulimit -n`, if it is to have one.
    ///
    /// # Errors
    ///
    /// Why it does not listen.
    pub(crate) fn start(
        peer: &Peer,
        task: Task,
        core: usize,
        descriptors: Option<u64>,
    ) -> Result<Self, String> {
        let start = || Self::start_once(peer, task, core, descriptors);
        if !peer.listens_silently() {
            return start();
        }
        let attempt = || start().and_then(|process| process.wait_until_it_accepts(peer));
        (1..ATTEMPTS).fold(attempt(), |last, _| last.or_else(|_| attempt()))
    }

    /// Starts it and waits until it says its address.
    fn start_once(peer: &Peer, task: Task, core: usize, descriptors: Option<u64>) -> Result<Self, String> {
        let descriptors = descriptors.map_or("-".into(), |limit| limit.to_string());
        let mut command = Command::new(env::current_exe().map_err(|error| format!("current_exe: {error}"))?);
        command.args([SERVE, peer.name, &task.to_word(), &core.to_string(), &descriptors]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own, to which all that it forks belong.
        command.process_group(0);
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

    fn wait_until_it_accepts(mut self, peer: &Peer) -> Result<Self, String> {
        let deadline = Instant::now() + PATIENCE;
        let complaint = |otherwise: &str| complaint(peer.name).unwrap_or_else(|| otherwise.into());
        while !self.accepts() {
            if self.ended().is_some() {
                return Err(complaint("it ended"));
            }
            if Instant::now() > deadline {
                return Err(complaint("it does not listen"));
            }
            thread::sleep(LOOK);
        }
        Ok(self)
    }

    fn accepts(&self) -> bool {
        // Without a listener the kernel may choose the very port that is connected to, and connect the socket to itself.
        TcpStream::connect(self.address).is_ok_and(|client| client.local_addr().ok() != Some(self.address))
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
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What the executable does when it is started by [`Process::start`], with the words behind [`SERVE`].
pub(crate) fn serve(words: &[String]) -> ExitCode {
    let error = match words {
        [name, task, core, descriptors] => match (Peer::named(name), Task::from_word(task)) {
            (Some(peer), Some(task)) => prepare(core, descriptors).err().unwrap_or_else(|| peer.run(task)),
            (None, _) => io::Error::other("there is no such peer"),
            (_, None) => io::Error::other("there is no such task"),
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
