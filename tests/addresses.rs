//! Addresses as users write them: interfaces, names of which some addresses are missing, hosts and ports left out.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::net::{Ipv6Addr, TcpListener};

use util::{Ended, Program, connect, echoloop, send_and_read};

const MESSAGE: &[u8] = b"this is a test";

#[test]
fn no_host_is_every_interface() {
    let server = Program::start(&["serve", ":0"]);
    let v4 = server.listening();
    assert!(v4.is_ipv4() && v4.ip().is_unspecified(), "{v4}");
    send_and_read(&connect(([127, 0, 0, 1], v4.port()).into()), MESSAGE);
    if TcpListener::bind("[::1]:0").is_ok() {
        let v6 = server.listening();
        assert!(v6.is_ipv6() && v6.ip().is_unspecified(), "{v6}");
        send_and_read(&connect((Ipv6Addr::LOCALHOST, v6.port()).into()), MESSAGE);
    }
    let ended = Ended::run(&mut echoloop(&["client", &format!(":{}", v4.port())]));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn an_unknown_interface_is_named_with_a_hint() {
    for command in ["serve", "client"] {
        let ended = Ended::run(&mut echoloop(&[command, "[fe80::1%nosuchif]:7"]));
        let error = ended.error(1);
        assert!(error.starts_with("cannot resolve [fe80::1%nosuchif]:7: "), "{error}");
        assert!(error.contains("name of the interface"), "{error}");
    }
}

#[test]
fn a_link_local_address_without_an_interface_is_an_error_with_a_hint() {
    let ended = Ended::run(&mut echoloop(&["client", "[fe80::1]:7", "--connect-timeout", "1s"]));
    let error = ended.error(1);
    assert!(error.starts_with("cannot connect to [fe80::1]:7: ") && error.contains("%eth0"), "{error}");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, path::Path, process::Command};

    use super::*;
    use util::{DEADLINE, skip};

    /// A link-local address of this machine, with the name of its interface.
    fn link_local() -> Option<String> {
        let table = fs::read_to_string("/proc/net/if_inet6").ok()?;
        table.lines().find_map(|line| {
            // The address, the interface's index, the length of the prefix, the scope, flags, the interface.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [address, _, _, "20", _, interface] = *fields else { return None };
            let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
            Some(format!("{address}%{interface}"))
        })
    }

    #[test]
    fn an_interface_is_given_by_its_name() {
        let Some(host) = link_local() else { return skip("there is no link-local address here") };
        let server = Program::start(&["serve", &format!("[{host}]:0")]);
        let address = server.listening();
        // By its name, and by its index as it is shown.
        for server in [format!("[{host}]:{}", address.port()), address.to_string()] {
            let ended = Ended::run(&mut echoloop(&["client", &server]));
            assert_eq!(ended.status.code(), Some(0), "{server}: {ended:?}");
        }
    }

    /// `sh -c SCRIPT ARGS…` with a network of its own, in which only the loopback interface is up, and with these hosts.
    /// `None`, and a word of it, where that is not allowed.
    fn isolated(hosts: &Path, script: &str, args: &[&str]) -> Option<Command> {
        let set_up = "mount --bind \"$0\" /etc/hosts && ip link set lo up";
        let command = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--net", "sh", "-c", &format!("{set_up} && {script}")]);
            command.arg(hosts).args(args).env_remove("RUST_LOG");
            command
        };
        match command("true").output() {
            Ok(output) if output.status.success() => Some(command(script)),
            _ => {
                skip("cannot make a network of its own");
                None
            }
        }
    }

    #[test]
    fn what_this_machine_lacks_of_a_name_is_skipped_with_a_warning() {
        const IPV6_OFF: &str = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$@\"";
        let directory = tempfile::tempdir().unwrap();
        let (hosts, log) = (directory.path().join("hosts"), directory.path().join("log"));
        let serve = [env!("CARGO_BIN_EXE_echoloop"), "serve", "localhost:0"];
        fs::write(&hosts, "::1 localhost\n127.0.0.1 localhost\n").unwrap();
        let Some(mut command) = isolated(&hosts, IPV6_OFF, &serve) else { return };
        command.stderr(fs::File::create(&log).unwrap());
        let mut server = Program::spawn(command);
        assert!(server.listening().is_ipv4());
        server.signal("TERM");
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        let log = fs::read_to_string(&log).unwrap();
        assert!(
            log.contains("localhost:0: cannot listen on [::1]:0: ") && log.contains("; skipped"),
            "{log}"
        );

        // The only address is needed.
        fs::write(&hosts, "::1 localhost\n").unwrap();
        let ended = Ended::run(&mut isolated(&hosts, IPV6_OFF, &serve).unwrap());
        assert!(ended.error(1).starts_with("cannot listen on [::1]:0: "), "{ended:?}");
    }

    #[test]
    fn a_client_for_whom_no_local_port_is_left_says_so() {
        // The only port for clients is that of a listener.
        const ONE_PORT: &str =
            "echo 27015 27015 > /proc/sys/net/ipv4/ip_local_port_range && mkfifo \"$2\" || exit 9
            \"$1\" serve > \"$2\" & read -r _ < \"$2\"
            \"$1\" client 127.0.0.1:27016; status=$?; kill $!; exit $status";
        let directory = tempfile::tempdir().unwrap();
        let (hosts, fifo) = (directory.path().join("hosts"), directory.path().join("fifo"));
        fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let args = [env!("CARGO_BIN_EXE_echoloop"), fifo.to_str().unwrap()];
        let Some(mut command) = isolated(&hosts, ONE_PORT, &args) else { return };
        let ended = Ended::run(&mut command);
        let error = ended.error(1);
        assert!(error.starts_with("cannot connect to 127.0.0.1:27016: "), "{error}");
        assert!(error.contains("all local ports"), "{error}");
    }
}
