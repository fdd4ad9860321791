//! Metrics, health checks and agent-checks of `serve`: its arguments, and what serves them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use echoloop::{
    Address, AddressError, Echo, Server,
    ops::{Ops, Running},
};

use super::{control::Predecessor, failure::Failure};

/// Where metrics and health checks are, if nothing else is said.
pub(crate) const OPS_PORT: u16 = 27016;

/// What sockets are for, when another process is given them.
const METRICS_ROLE: &str = "metrics";
const AGENT_ROLE: &str = "agent";

/// What looks at the server from outside.
#[derive(Args, Clone, Debug)]
pub(crate) struct OpsArgs {
    /// Serve metrics, health checks and a status page over HTTP here
    ///
    /// /metrics is for Prometheus, /livez and /readyz are health checks, / is a page for people. Without a host it is
    /// 127.0.0.1, without a port 27016. Whoever can connect can read it. It closes last in a drain. Off by default.
    #[arg(long, value_name = "ADDR", value_parser = ops_address)]
    metrics: Option<Address>,

    /// Answer HAProxy's agent-check here: `up ready`, `drain` or `stopped`
    ///
    /// Without a host it is 127.0.0.1. Off by default.
    #[arg(long, value_name = "ADDR", value_parser = agent_address)]
    agent: Option<Address>,
}

/// What was started. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct RunningOps {
    /// What they show.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no control socket"))]
    pub(crate) ops: Ops,
    http: Option<Running>,
    agent: Option<Running>,
}

impl OpsArgs {
    /// Whether somebody will look.
    pub(crate) const fn has_metrics(&self) -> bool {
        self.metrics.is_some()
    }

    /// Starts what is wanted.
    pub(crate) fn start(
        &self,
        server: &Server<Echo>,
        predecessor: &mut Predecessor,
    ) -> Result<RunningOps, Failure> {
        let ops = Ops::new(server.handle(), server.local_addrs());
        let (mut http, mut agent) = (None, None);
        if let Some(address) = self.metrics.clone() {
            let server = predecessor.pass_on(METRICS_ROLE, ops.http_server()).bind([address])?;
            http = Some(ops.start_http_server(server)?);
        }
        if let Some(address) = self.agent.clone() {
            let server = predecessor.pass_on(AGENT_ROLE, ops.agent_server()).bind([address])?;
            agent = Some(ops.start_agent_server(server)?);
        }
        Ok(RunningOps { ops, http, agent })
    }
}

impl RunningOps {
    /// Those that run, with what each is for.
    #[cfg(unix)]
    pub(crate) fn running(&self) -> impl Iterator<Item = (&'static str, &Running)> {
        let all = [(METRICS_ROLE, &self.http), (AGENT_ROLE, &self.agent)];
        all.into_iter().filter_map(|(role, running)| Some((role, running.as_ref()?)))
    }

    /// Ends it, at once if nobody wants to wait.
    pub(crate) fn end(self, at_once: bool) {
        for running in [self.http, self.agent].into_iter().flatten() {
            if at_once { running.abort() } else { running.end() }
        }
    }

    /// A line for each address.
    pub(crate) fn introduction(&self) -> Vec<String> {
        let addresses = |running: &Option<Running>| {
            running.as_ref().map_or_else(Vec::new, |running| running.local_addrs().to_vec())
        };
        let http = addresses(&self.http).into_iter().map(|address| {
            let is_url = matches!(address, Address::Ip(_));
            if is_url { format!("metrics on http://{address}/") } else { format!("metrics on {address}") }
        });
        let agents = addresses(&self.agent).into_iter().map(|address| format!("agent-check on {address}"));
        http.chain(agents).collect()
    }
}

/// Where metrics are: HOST:PORT, HOST, :PORT, PORT or unix:PATH. No host is this machine.
pub(crate) fn ops_address(text: &str) -> Result<Address, String> {
    address(text, Some(OPS_PORT))
}

/// The same, but for a port that must be there.
fn agent_address(text: &str) -> Result<Address, String> {
    address(text, None)
}

fn address(text: &str, port: Option<u16>) -> Result<Address, String> {
    let address = parse(text, port).map_err(|error| error.to_string())?;
    if address.is_udp() { Err("it is not spoken over UDP".to_owned()) } else { Ok(address) }
}

fn parse(text: &str, port: Option<u16>) -> Result<Address, AddressError> {
    let local = |port: u16| Address::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Ok(local(port));
    }
    let Some(port) = port else { return text.parse() };
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = unbracketed.parse::<IpAddr>() {
        return Ok(Address::Ip(SocketAddr::new(ip, port)));
    }
    let has_port = text.contains(':') && !text.ends_with(']');
    // A number that is no port is no host either.
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    if has_port || is_number { text.parse() } else { format!("{text}:{port}").parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_is_this_machine_and_no_port_the_usual_one() {
        for (text, address) in [
            ("9100", "127.0.0.1:9100"),
            (":9100", "127.0.0.1:9100"),
            (":0", "127.0.0.1:0"),
            ("127.0.0.1", "127.0.0.1:27016"),
            ("localhost", "localhost:27016"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::]:80", "[::]:80"),
            ("::1", "[::1]:27016"),
            ("[::1]", "[::1]:27016"),
            ("unix:/tmp/x", "unix:/tmp/x"),
        ] {
            assert_eq!(ops_address(text).unwrap().to_string(), address);
        }
        assert_eq!(agent_address(":9").unwrap().to_string(), "127.0.0.1:9");
        for bad in ["udp:127.0.0.1:7", "", ":", "a b", "65536", "localhost:", "http://x"] {
            assert!(ops_address(bad).is_err(), "{bad}");
        }
        assert!(agent_address("localhost").is_err());
    }
}
