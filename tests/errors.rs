//! Errors of the program: one line on stderr that begins with `error: `, exit status 2 for wrong arguments and
//! 1 for the rest; and a service that does not mind what becomes of its stdout and stderr.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "a test")]

mod util;

use std::net::TcpListener;

use util::{Ended, Program, echoloop};

/// Checks that `echoloop ARGS…` says in one line what is wrong, and nothing else, and ends with `status`.
#[track_caller]
fn fails(status: i32, args: &[&str], words: &[&str]) {
    fails_as_told(&Ended::run(&mut echoloop(args)), status, words);
}

#[track_caller]
fn fails_as_told(ended: &Ended, status: i32, words: &[&str]) {
    let error = ended.error(status);
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error:?}");
    }
    assert_eq!(ended.stderr, format!("error: {error}\n"));
    assert_eq!(ended.stdout, "");
}

/// What the system says of a port in use; on Windows by its number, as Wine has no words for it.
const IN_USE: &str = if cfg!(windows) { "os error 10048" } else { "in use" };

#[test]
fn a_port_in_use_is_named_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = ["cannot listen on", &address, IN_USE, "port 0"];
    fails(1, &["serve", &address], &words);
    fails(1, &["serve", &address, "--workers", "2"], &words);
    fails(1, &["serve", "127.0.0.1:0", &address], &words);
}

#[test]
fn two_servers_never_share_a_port() {
    for first in ["1", "2"] {
        let server = Program::start(&["serve", "127.0.0.1:0", "--workers", first]);
        let address = server.listening().to_string();
        for second in ["1", "2"] {
            fails(1, &["serve", &address, "--workers", second], &["cannot listen on", &address, IN_USE]);
        }
    }
}

#[test]
fn an_address_of_another_machine_is_named_with_a_hint() {
    // RFC 5737: a network for documentation.
    fails(1, &["serve", "192.0.2.1:0"], &["cannot listen on 192.0.2.1:0", "no interface"]);
}

#[test]
fn an_unknown_host_is_named_with_a_hint() {
    fails(1, &["serve", "nowhere.invalid:0"], &["cannot resolve nowhere.invalid:0", "spelling"]);
    fails(1, &["client", "nowhere.invalid"], &["cannot resolve nowhere.invalid:27015", "spelling"]);
}

#[test]
fn bad_addresses_are_usage_errors() {
    let bad = ["", ":", "localhost:65536", "localhost:-1", "::1%eth0:1", "[::1]]", "[fe80::1%]:1", "a b:1"];
    for address in bad {
        fails(2, &["serve", address], &["address", &format!("'{address}'"), "--help"]);
    }
    fails(2, &["serve", "127.0.0.1:0", "unix:"], &["unix:", "path"]);
    fails(2, &["client", "localhost:x"], &["'localhost:x'", "port", "--help"]);
    fails(2, &["client", "a b"], &["a b"]);
    fails(2, &["serve", "a\n\nb:1"], &["'a", "b:1'", "--help"]);
}

#[test]
fn counts_have_units_and_bounds() {
    let server = Program::start(&["serve", "127.0.0.1:0", "--max-connections", "1k", "--backlog", "10k"]);
    util::send_and_read(&util::connect(server.listening()), b"this is a test");
    for option in ["--max-connections", "--backlog", "--workers"] {
        fails(2, &["serve", &format!("{option}=1.5")], &[option, "whole number"]);
        fails(2, &["serve", &format!("{option}=10x")], &[option, "10k"]);
    }
}

#[test]
fn bad_durations_are_usage_errors() {
    for option in ["--idle-timeout", "--write-timeout", "--linger-timeout", "--drain-timeout"] {
        for duration in ["", "5", "-5s", "5 parsecs", "99999999999999999999s", "s", "NaN"] {
            fails(2, &["serve", &format!("{option}={duration}")], &[option, "500ms", "--help"]);
        }
    }
    for option in ["--connect-timeout", "--timeout"] {
        fails(2, &["client", &format!("{option}=5")], &[option, "'5'", "500ms", "--help"]);
    }
    fails(2, &["serve", "--idle-timeout"], &["--idle-timeout", "value is required"]);
    fails(2, &["serve", "--idle-timeout", "-5s"], &["-5"]);
}

#[test]
fn bad_numbers_and_sizes_are_usage_errors() {
    for option in ["--max-connections", "--backlog", "--workers", "--high-water"] {
        for number in ["0", "-1", "x", "", "99999999999999999999999"] {
            let argument = format!("{option}={number}");
            fails(2, &["serve", &argument], &[option, &format!("'{number}'"), "--help"]);
        }
    }
    fails(2, &["serve", "--workers=1025"], &["--workers", "1024"]);
    fails(2, &["serve", "--backlog=4294967296"], &["--backlog"]);
    fails(2, &["serve", "--high-water=2GiB"], &["--high-water", "1GiB"]);
}

#[test]
fn options_that_exclude_each_other_are_usage_errors() {
    fails(2, &["serve", "--once", "--workers", "2"], &["--once", "--workers", "--help"]);
    fails(2, &["serve", "--once", "--once"], &["--once", "--help"]);
}

#[test]
fn what_is_unknown_is_a_usage_error() {
    fails(2, &["serve", "--bogus"], &["'--bogus'", "--help"]);
    fails(2, &["client", "--bogus"], &["'--bogus'", "--help"]);
    fails(2, &["--bogus"], &["'--bogus'", "--help"]);
    fails(2, &["frobnicate"], &["'frobnicate'", "--help"]);
    fails(2, &["client", "localhost", "one", "two"], &["'two'", "--help"]);
}

#[test]
fn an_option_that_is_misspelt_is_told_the_right_one_and_nothing_else() {
    for (args, words) in [
        (&["serve", "--worker", "2"][..], &["'--worker'", "'--workers'"][..]),
        (&["serve", "--connections", "5"], &["'--connections'"]),
        (&["client", "--time", "5s"], &["'--time'", "'--timeout'"]),
        (&["client", "--verbose"], &["'--verbose'"]),
        (&["bench", "localhost:7", "--connection", "5"], &["'--connection'", "'--connections'"]),
    ] {
        let ended = Ended::run(&mut echoloop(args));
        fails_as_told(&ended, 2, words);
        assert!(!ended.stderr.contains("-- --") && !ended.stderr.contains("as a value"), "{ended:?}");
    }
}

#[test]
fn no_command_is_a_usage_error_that_says_so() {
    fails(2, &[], &["a command is missing: serve, client, bench, report", "--help"]);
}

/// The part of a help text that is about `option`, with all white space alike.
#[track_caller]
fn about(help: &str, option: &str) -> String {
    let help = format!(" {}", help.split_whitespace().collect::<Vec<_>>().join(" "));
    let begin = help.find(&format!(" {option} ")).unwrap_or_else(|| panic!("no {option} in {help}"));
    let about = &help[begin + 1..];
    about.find(" --").map_or(about, |end| &about[..end]).to_owned()
}

#[test]
fn help_names_every_option_with_its_unit_and_default() {
    let help = |args: &[&str]| {
        let ended = Ended::run(&mut echoloop(args));
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        ended.stdout
    };
    let all = help(&["--help"]);
    for subcommand in ["serve", "client"] {
        assert!(all.contains(subcommand), "{all}");
    }
    let serve = [
        ("--max-connections <N>", "[default: set by the limit on open files]"),
        ("--idle-timeout <DUR>", "[default: 10m]"),
        ("--write-timeout <DUR>", "[default: 60s]"),
        ("--linger-timeout <DUR>", "[default: 30s]"),
        ("--drain-timeout <DUR>", "[default: 25s]"),
        ("--backlog <N>", "[default: 4096]"),
        ("--workers <N>", "[default: 1]"),
        ("--high-water <SIZE>", "[default: 64KiB]"),
        ("--no-splice", ""),
        ("--once", ""),
        ("[ADDR]...", "[default: 127.0.0.1:27015]"),
    ];
    let client = [
        ("[HOST[:PORT]]", "[default: localhost]"),
        ("[MESSAGE]", "[default: \"this is a test\"]"),
        ("--connect-timeout <DUR>", "[default: 10s]"),
        ("--timeout <DUR>", "[default: 60s]"),
    ];
    for (subcommand, options) in [("serve", &serve[..]), ("client", &client[..])] {
        for flag in ["--help", "-h"] {
            let text = help(&[subcommand, flag]);
            let text = text.split_once("Arguments:").expect("a list of arguments").1;
            for (option, default) in options {
                let about = about(text, option);
                assert!(about.contains(default), "no {default} in {about}");
            }
        }
    }
    for unit in ["500ms", "10m", "off", "64KiB"] {
        assert!(help(&["serve", "--help"]).contains(unit), "{unit}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    for flag in ["--version", "-V"] {
        let ended = Ended::run(&mut echoloop(&[flag]));
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        assert_eq!(ended.stdout, format!("echoloop {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[cfg(unix)]
mod unix {
    use std::{
        ffi::OsStr,
        fs,
        io::{self, Read, Write},
        net::Shutdown,
        os::{
            fd::OwnedFd,
            unix::{
                ffi::OsStrExt,
                fs::{FileTypeExt, PermissionsExt, symlink},
                net::{UnixListener, UnixStream},
            },
        },
        path::{Path, PathBuf},
        process::{Command, Stdio},
        sync::mpsc::channel,
        time::Duration,
    };

    use super::*;
    use util::{DEADLINE, connect, eventually, finish, ping};

    /// How long a program may take to end that nothing holds up, on a busy machine.
    const PROMPTLY: Duration = Duration::from_secs(15);

    /// A path for a socket, and its address; the directory goes with the value.
    struct SocketPath {
        path: PathBuf,
        address: String,
        _directory: tempfile::TempDir,
    }

    impl SocketPath {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("tempdir");
            let path = directory.path().join("echo.sock");
            let address = format!("unix:{}", path.display());
            Self { path, address, _directory: directory }
        }

        /// Leaves a socket file on which nobody listens.
        fn leave_stale(&self) {
            drop(UnixListener::bind(&self.path).expect("bind"));
            assert!(self.is_socket());
        }

        fn is_socket(&self) -> bool {
            fs::symlink_metadata(&self.path).is_ok_and(|found| found.file_type().is_socket())
        }
    }

    /// Waits until somebody listens on `path`, and has a message echoed, with a proper end.
    #[track_caller]
    fn is_served(path: &Path) {
        let mut client = None;
        eventually("the server listens", || {
            client = UnixStream::connect(path).ok();
            client.is_some()
        });
        let mut client = client.expect("connected");
        client.set_read_timeout(Some(DEADLINE)).expect("set_read_timeout");
        client.write_all(b"this is a test").expect("send");
        client.shutdown(Shutdown::Write).expect("shutdown");
        let mut echo = Vec::new();
        client.read_to_end(&mut echo).expect("a clean end");
        assert_eq!(echo, b"this is a test");
    }

    #[track_caller]
    fn ends_well_on_sigterm(mut server: Program) {
        server.signal("TERM");
        assert_eq!(server.wait(PROMPTLY).code(), Some(0));
    }

    /// A pipe that nobody reads and whose reading end is gone.
    fn broken_pipe() -> Stdio {
        let (reader, writer) = io::pipe().expect("pipe");
        drop(reader);
        writer.into()
    }

    /// A program whose stdout this test does not see.
    fn spawn(mut command: Command) -> Program {
        Program { child: command.spawn().expect("spawn"), stdout: channel().1 }
    }

    /// `echoloop ARGS…`, started by a shell with a redirection such as `>&-`.
    fn redirected(redirection: &str, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec \"$0\" \"$@\" {redirection}"));
        command.arg(env!("CARGO_BIN_EXE_echoloop")).args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    #[test]
    fn arguments_that_are_not_unicode_are_usage_errors() {
        for subcommand in ["serve", "client"] {
            let ended = Ended::run(echoloop(&[subcommand]).arg(OsStr::from_bytes(b"\xff:1")));
            fails_as_told(&ended, 2, &["--help"]);
        }
    }

    #[test]
    fn too_few_descriptors_are_named_with_a_hint() {
        let mut command = Command::new("sh");
        command.arg("-c").arg("ulimit -n 32 && exec \"$0\" serve 127.0.0.1:0 --workers 64");
        command.arg(env!("CARGO_BIN_EXE_echoloop")).stdin(Stdio::null()).env_remove("RUST_LOG");
        fails_as_told(&Ended::run(&mut command), 1, &["oo many open files", "ulimit -n"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_privileged_port_is_named_with_a_hint() {
        use std::os::unix::{fs::MetadataExt, process::CommandExt};

        const NOBODY: u32 = 65_534;
        let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        if first_free.trim().parse::<u16>().unwrap() < 2 {
            return util::skip("no port is privileged here: net.ipv4.ip_unprivileged_port_start");
        }
        // The program itself may lie where only root can read.
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = directory.path().join("echoloop");
        fs::copy(env!("CARGO_BIN_EXE_echoloop"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let as_nobody = |args: &[&str]| {
            let mut command = Command::new(&program);
            command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
            if fs::metadata("/proc/self").unwrap().uid() == 0 {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        match as_nobody(&["--version"]).output() {
            Ok(output) if output.status.success() => {}
            other => return util::skip(&format!("cannot run the program without privileges: {other:?}")),
        }
        let ended = Ended::run(&mut as_nobody(&["serve", "127.0.0.1:1"]));
        fails_as_told(&ended, 1, &["cannot listen on 127.0.0.1:1", "ermission denied", "below 1024"]);
    }

    #[test]
    fn the_socket_file_is_there_while_the_server_runs() {
        let socket = SocketPath::new();
        let server = Program::start(&["serve", &socket.address]);
        assert_eq!(server.line(), format!("listening on {}", socket.address));
        assert!(socket.is_socket());
        is_served(&socket.path);
        ends_well_on_sigterm(server);
        assert!(!fs::exists(&socket.path).unwrap());
    }

    #[test]
    fn the_socket_file_is_removed_when_once_has_served() {
        let socket = SocketPath::new();
        let mut server = Program::start(&["serve", "--once", &socket.address]);
        server.line();
        is_served(&socket.path);
        assert_eq!(server.wait(PROMPTLY).code(), Some(0));
        assert!(!fs::exists(&socket.path).unwrap());
    }

    #[test]
    fn a_stale_socket_file_is_replaced() {
        let socket = SocketPath::new();
        socket.leave_stale();
        let server = Program::start(&["serve", &socket.address, "--workers", "2"]);
        server.line();
        is_served(&socket.path);
        ends_well_on_sigterm(server);
        assert!(!fs::exists(&socket.path).unwrap());
    }

    #[test]
    fn a_file_at_the_path_is_refused_and_left_untouched() {
        let socket = SocketPath::new();
        fs::write(&socket.path, "precious").unwrap();
        fails(1, &["serve", &socket.address], &["cannot listen on", &socket.address, "not a socket"]);
        assert_eq!(fs::read_to_string(&socket.path).unwrap(), "precious");

        fs::remove_file(&socket.path).unwrap();
        fs::create_dir(&socket.path).unwrap();
        fails(1, &["serve", &socket.address], &["not a socket"]);

        fs::remove_dir(&socket.path).unwrap();
        symlink("nowhere", &socket.path).unwrap();
        fails(1, &["serve", &socket.address], &["not a socket"]);
        assert!(fs::symlink_metadata(&socket.path).unwrap().is_symlink());
    }

    #[test]
    fn a_socket_on_which_somebody_listens_is_refused_and_left() {
        let socket = SocketPath::new();
        let other = UnixListener::bind(&socket.path).unwrap();
        fails(1, &["serve", &socket.address], &["cannot listen on", &socket.address, "in use"]);
        let mut client = UnixStream::connect(&socket.path).unwrap();
        client.write_all(b"x").unwrap();
        // The first to come was the program, which looked whether somebody listens.
        drop(other.accept().unwrap());
        let mut byte = [0];
        other.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn two_servers_never_share_a_path() {
        let socket = SocketPath::new();
        let server = Program::start(&["serve", &socket.address]);
        server.line();
        fails(1, &["serve", &socket.address, "--workers", "2"], &["cannot listen on", "in use"]);
        is_served(&socket.path);
        ends_well_on_sigterm(server);
    }

    #[test]
    fn a_file_that_has_taken_the_place_of_the_socket_is_left() {
        let socket = SocketPath::new();
        let server = Program::start(&["serve", &socket.address]);
        server.line();
        fs::remove_file(&socket.path).unwrap();
        fs::write(&socket.path, "precious").unwrap();
        ends_well_on_sigterm(server);
        assert_eq!(fs::read_to_string(&socket.path).unwrap(), "precious");
    }

    #[test]
    fn nothing_is_left_listening_if_another_address_fails() {
        let socket = SocketPath::new();
        fails(1, &["serve", &socket.address, "192.0.2.1:0"], &["cannot listen on 192.0.2.1:0"]);
        assert!(!fs::exists(&socket.path).unwrap());
        fails(1, &["serve", &socket.address, &socket.address], &["cannot listen on", "in use"]);
        assert!(!fs::exists(&socket.path).unwrap());
    }

    #[test]
    fn a_path_that_cannot_be_a_socket_is_named() {
        let long = format!("unix:/tmp/{}", "x".repeat(200));
        fails(1, &["serve", &long], &["cannot listen on", &long, "path must be shorter"]);
        fails(1, &["client", &long], &["cannot connect to", &long, "path must be shorter"]);
        let nowhere = "unix:/nonexistent/echo.sock";
        fails(1, &["serve", nowhere], &["cannot listen on", nowhere, "No such file"]);
        fails(1, &["client", nowhere], &["cannot connect to", nowhere, "No such file"]);
    }

    #[test]
    fn service_goes_on_without_stdout() {
        let socket = SocketPath::new();
        let args = ["serve", &socket.address];
        let mut broken = echoloop(&args);
        broken.stdout(broken_pipe());
        for command in [broken, redirected(">&-", &args), redirected(">/dev/full", &args)] {
            if !cfg!(target_os = "linux") && format!("{command:?}").contains("/dev/full") {
                continue;
            }
            let server = spawn(command);
            is_served(&socket.path);
            ends_well_on_sigterm(server);
            assert!(!fs::exists(&socket.path).unwrap());
        }
    }

    #[test]
    fn service_goes_on_without_stderr() {
        let args = ["serve", "127.0.0.1:0"];
        let mut broken = echoloop(&args);
        broken.stderr(broken_pipe());
        for mut command in [broken, redirected("2>&-", &args)] {
            command.env("RUST_LOG", "trace");
            let server = Program::spawn(command);
            let client = connect(server.listening());
            for _ in 0..100 {
                ping(&client, b"this is a test");
            }
            assert_eq!(finish(&client), b"");
            ends_well_on_sigterm(server);
        }
    }

    #[test]
    fn service_goes_on_while_stderr_is_full_and_nobody_reads_it() {
        let mut command = echoloop(&["serve", "127.0.0.1:0"]);
        command.env("RUST_LOG", "trace").stderr(Stdio::piped());
        let mut server = Program::spawn(command);
        let address = server.listening();
        // Each connection is worth a few lines, each message none.
        for _ in 0..500 {
            let client = connect(address);
            for _ in 0..10 {
                ping(&client, b"this is a test");
            }
            assert_eq!(finish(&client), b"");
        }
        let mut stderr = server.child.stderr.take().unwrap();
        ends_well_on_sigterm(server);
        let mut log = Vec::new();
        stderr.read_to_end(&mut log).unwrap();
        assert!(log.len() > 60_000, "the pipe was never full: {} bytes", log.len());
    }

    #[test]
    fn the_exit_status_says_it_all_without_stderr() {
        for (args, status) in [(["serve", "--bogus"], 2), (["serve", "192.0.2.1:0"], 1)] {
            let mut broken = echoloop(&args);
            broken.stderr(broken_pipe()).stdout(Stdio::null());
            // A stderr that takes no more, and nobody reads it.
            let (_unread, mut end) = UnixStream::pair().unwrap();
            end.set_nonblocking(true).unwrap();
            while end.write(&[b'x'; 4096]).is_ok() {}
            end.set_nonblocking(false).unwrap();
            let mut full = echoloop(&args);
            full.stderr(OwnedFd::from(end)).stdout(Stdio::null());
            for command in [broken, redirected("2>&-", &args), redirected(">&- 2>&-", &args), full] {
                let what = format!("{command:?}");
                assert_eq!(spawn(command).wait(PROMPTLY).code(), Some(status), "{what}");
            }
        }
    }

    #[test]
    fn help_and_version_do_not_mind_a_closed_stdout() {
        for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["client", "-h"]] {
            let mut broken = echoloop(args);
            broken.stdout(broken_pipe()).stderr(Stdio::null());
            for command in [broken, redirected(">&- 2>/dev/null", args), redirected(">&- 2>&-", args)] {
                let what = format!("{command:?}");
                assert_eq!(spawn(command).wait(PROMPTLY).code(), Some(0), "{what}");
            }
        }
    }
}
