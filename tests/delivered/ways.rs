//! The ways that bytes take: copied or moved inside the kernel, over IPv4 or IPv6.

use std::{net::TcpListener, thread};

use echoloop::{Config, Echo};

#[cfg(feature = "cli")]
use crate::util::{Program, splice_options};
use crate::util::{Running, skip, tcp_memory::unless_short_of_tcp_memory};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    path: Path,
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Path {
    Copy,
    Splice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

/// Runs `test` on every way at once. A thread that fails is named after its way.
#[track_caller]
pub(crate) fn on_every_way(test: fn(Way)) {
    unless_short_of_tcp_memory(|| on_every_way_at_once(test));
}

#[track_caller]
fn on_every_way_at_once(test: fn(Way)) {
    thread::scope(|scope| {
        for family in families() {
            for path in [Path::Copy, Path::Splice] {
                let way = Way { path, family };
                let thread = thread::Builder::new().name(format!("{way:?}"));
                thread.spawn_scoped(scope, move || test(way)).unwrap();
            }
        }
    });
}

fn families() -> Vec<Family> {
    if TcpListener::bind("[::1]:0").is_ok() {
        vec![Family::Ipv4, Family::Ipv6]
    } else {
        skip("the half of it that is over IPv6: there is none on this machine");
        vec![Family::Ipv4]
    }
}

impl Way {
    const fn listen_address(self) -> &'static str {
        match self.family {
            Family::Ipv4 => "127.0.0.1:0",
            Family::Ipv6 => "[::1]:0",
        }
    }

    /// An echo server on a thread of this process.
    pub(crate) fn serve(self, mut config: Config) -> Running<Echo> {
        config.splice_threshold_bytes = match self.path {
            Path::Copy => None,
            Path::Splice => Some(1),
        };
        Running::start(config, &[self.listen_address()], |_| Some(Echo))
    }

    /// The program, as a server. It moves the bytes of bulk connections.
    #[cfg(feature = "cli")]
    pub(crate) fn start_program(self, options: &[&str]) -> Program {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_echoloop"));
        command.args(["serve", self.listen_address()]).args(options);
        command.args(match self.path {
            Path::Copy => &["--no-splice"],
            Path::Splice => splice_options(),
        });
        Program::spawn(command)
    }
}
