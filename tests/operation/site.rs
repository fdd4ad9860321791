//! Where the servers of a recipe are in a test.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use crate::{
    text_of,
    util::{DEADLINE, Program, proxies::Proxy},
};

/// A network within 127.0.0.0/8 that stands for 10.0.0.0/24. No other test uses it, and no connection goes out from it. So an
/// address in it is free again when a server has ended.
pub(crate) struct Site {
    network: String,
    /// What stand for the ports 27015 (echo), 27016 (metrics) and 27017 (agent).
    ports: [u16; 3],
}

impl Site {
    pub(crate) fn new() -> Self {
        let network = format!("127.{}.{}", fastrand::u8(1..), fastrand::u8(..));
        let free = [(); 3].map(|()| TcpListener::bind(format!("{network}.1:0")).unwrap());
        let ports = free.map(|listener| listener.local_addr().unwrap().port());
        Self { network, ports }
    }

    /// The text with the addresses and ports of this site.
    pub(crate) fn moved(&self, text: &str) -> String {
        let [echo, metrics, agent] = self.ports.map(|port| port.to_string());
        // On one machine every proxy has this address.
        let text = text.replace("10.0.0.0/24", "127.0.0.1").replace("10.0.0.", &format!("{}.", self.network));
        text.replace("27015", &echo).replace("27016", &metrics).replace("27017", &agent)
    }

    fn address(&self, address: &str) -> SocketAddr {
        self.moved(address).parse().unwrap()
    }

    /// Where the proxy listens.
    pub(crate) fn front(&self) -> SocketAddr {
        self.address("10.0.0.9:27015")
    }

    /// Where server 1 or 2 has its metrics.
    pub(crate) fn metrics(&self, server: u8) -> SocketAddr {
        self.address(&format!("10.0.0.{server}:27016"))
    }

    /// Starts server 1 or 2, as the comment in this recipe says, with what `change` makes of that.
    pub(crate) fn serve(&self, recipe: &str, server: u8, change: impl Fn(String) -> String) -> Program {
        let command = change(command_in(&text_of(recipe)));
        let command = command.replace("10.0.0.1", &format!("10.0.0.{server}"));
        let command = self.moved(&format!("{command} --metrics 10.0.0.{server}:27016"));
        let program = Program::start(&command.split_whitespace().skip(1).collect::<Vec<_>>());
        program.listening();
        program
    }

    /// Starts both servers, and what is in front of them.
    pub(crate) fn start(
        &self,
        recipe: &str,
        start: fn(SocketAddr, &str) -> Result<Option<Proxy>, String>,
        change: impl Fn(String) -> String,
    ) -> Option<([Program; 2], Proxy)> {
        let servers = [1, 2].map(|server| self.serve(recipe, server, &change));
        let configuration = self.moved(&change(text_of(recipe)));
        let proxy =
            start(self.front(), &configuration).unwrap_or_else(|error| panic!("{recipe}: {error}"))?;
        Some((servers, proxy))
    }
}

/// The command by which a recipe says that each server is started.
fn command_in(recipe: &str) -> String {
    let lines = recipe.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let mut command = String::new();
    for line in lines.skip_while(|line| !line.starts_with("echoloop serve ")) {
        command += line.trim_end_matches('\\');
        if !line.ends_with('\\') {
            return command;
        }
    }
    panic!("no command in {recipe}")
}

/// Servers that are told to stop end as they should: everything is delivered, and no proxy was refused.
#[track_caller]
pub(crate) fn end(servers: [Program; 2]) {
    for mut server in servers {
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE + Duration::from_secs(5)).code(), Some(0));
        let lines: Vec<String> = server.stdout.iter().collect();
        let summary = lines.last().expect("a summary");
        assert!(summary.contains(" 0 bytes undelivered; "), "{summary}");
        for bad in ["proxy refused", "handshake failed", "reset undelivered"] {
            assert!(!summary.contains(bad), "{summary}");
        }
    }
}
