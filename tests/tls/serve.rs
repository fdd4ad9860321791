//! `echoloop serve` over TLS, as a program.

use std::{net::SocketAddr, process::Stdio, sync::mpsc::Receiver};

use echoloop::CloseReason;

use crate::util::{DEADLINE, Ended, Program, echoloop, lines};

/// A server that runs. It listens on a free port of 127.0.0.1.
pub(crate) struct Serve {
    program: Program,
    pub(crate) address: SocketAddr,
    /// The lines of its stderr, as they come.
    stderr: Receiver<String>,
}

impl Serve {
    /// `echoloop serve 127.0.0.1:0 ARGS…`
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = echoloop(&[&["serve", "127.0.0.1:0"], args].concat());
        command.stderr(Stdio::piped());
        let mut program = Program::spawn(command);
        let stderr = lines(program.child.stderr.take().expect("piped"));
        let address = program.listening();
        Self { program, address, stderr }
    }

    /// The next line on stdout.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.program.line()
    }

    /// Waits for a line on stderr with this in it.
    #[track_caller]
    pub(crate) fn hear(&self, what: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no '{what}'"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Sends it a signal by its name, as `HUP`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// `echoloop client --tls ARGS… ADDRESS`.
    #[track_caller]
    pub(crate) fn client(&self, args: &[&str]) -> Ended {
        client(&self.address.to_string(), args)
    }

    /// Stops it. So many connections have ended in these ways, and none in others. Returns what it said on stderr.
    #[cfg(unix)]
    #[track_caller]
    pub(crate) fn ends_with(mut self, ends: &[(CloseReason, u64)]) -> Vec<String> {
        self.signal("TERM");
        let summary = self.program.line();
        let (_, counts) = summary.split_once("; ").unwrap_or_else(|| panic!("{summary}"));
        let mut expected: Vec<_> =
            ends.iter().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
        let mut counts: Vec<_> = counts.split(", ").collect();
        expected.sort();
        counts.sort_unstable();
        assert_eq!(counts, expected, "{summary}");
        assert!(summary.contains(" 0 bytes undelivered; "), "{summary}");
        assert_eq!(self.program.wait(DEADLINE).code(), Some(0));
        self.stderr.iter().collect()
    }
}

/// Where there are no signals, it is ended as it is.
#[cfg(not(unix))]
impl Serve {
    pub(crate) fn ends_with(self, _: &[(CloseReason, u64)]) -> Vec<String> {
        Vec::new()
    }
}

/// `echoloop client --tls ARGS… ADDRESS`.
#[track_caller]
pub(crate) fn client(address: &str, args: &[&str]) -> Ended {
    Ended::run(&mut echoloop(&[&["client", "--tls"], args, &[address]].concat()))
}
