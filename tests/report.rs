//! `echoloop report`, and the files that it and `echoloop bench` read and write.
#![cfg(feature = "cli")]
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use echoloop::{Config, Echo};
use serde_json::Value;
use tempfile::TempDir;
use util::{Ended, Running, echoloop};

fn echo_server() -> (Running<Echo>, String) {
    let server = Running::echo(Config::default());
    let address = server.address().to_string();
    (server, address)
}

#[track_caller]
fn bench(server: &str, args: &[&str]) -> Ended {
    Ended::run(&mut echoloop(&[&["bench", server, "-n", "300", "-c", "5"], args].concat()))
}

#[track_caller]
fn report(args: &[&str]) -> Ended {
    Ended::run(&mut echoloop(&[&["report"], args].concat()))
}

/// The figures of logs that can be read.
#[track_caller]
fn figures(logs: &[&str]) -> Value {
    let ended = report(&[logs, &["--format", "json"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A directory with a log of 300 messages.
#[track_caller]
fn with_log(args: &[&str]) -> (TempDir, PathBuf) {
    let (_server, address) = echo_server();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.hlog");
    let ended = bench(&address, &[args, &["--hdr", text(&path)]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    (directory, path)
}

#[test]
fn report_does_not_replace_what_it_reads() {
    let (directory, log) = with_log(&[]);
    let before = fs::read(&log).unwrap();
    let other_way = directory.path().join(".").join("x.hlog");
    for page in [&log, &other_way] {
        let error = report(&[text(&log), "--report", text(page)]).error(2).to_owned();
        assert!(error.starts_with("--report would overwrite "), "{error}");
    }
    #[cfg(unix)]
    {
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("x.hlog", &link).unwrap();
        report(&[text(&log), "--report", text(&link)]).error(2);
        report(&[text(&link), "--report", text(&log)]).error(2);
    }
    assert_eq!(fs::read(&log).unwrap(), before);
    assert!(report(&[text(&log), text(&other_way)]).error(2).contains("is given twice"));
}

#[test]
fn bench_does_not_write_two_files_into_one() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other_way) = (directory.path().join("new"), directory.path().join(".").join("new"));
    // Said before anyone is connected to.
    let ended = bench("127.0.0.1:1", &["--hdr", text(&path), "--report", text(&other_way)]);
    assert_eq!(ended.error(2), "--hdr and --report are the same file (try --help)");
    assert_eq!(names(&directory), [""; 0]);
}

#[test]
fn a_command_that_fails_leaves_older_files_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (log, page) = (directory.path().join("old.hlog"), directory.path().join("old.html"));
    for path in [&log, &page] {
        fs::write(path, "older").unwrap();
    }
    // Bound, so that nobody else gets the port, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    bench(&address, &["--hdr", text(&log), "--report", text(&page)]).error(1);
    report(&["Cargo.toml", "--report", text(&page)]).error(1);
    for path in [&log, &page] {
        assert_eq!(fs::read_to_string(path).unwrap(), "older");
    }
    assert_eq!(names(&directory), ["old.hlog", "old.html"]);
}

#[test]
fn files_of_a_run_that_succeeds_replace_older_ones() {
    let (_server, address) = echo_server();
    let directory = tempfile::tempdir().unwrap();
    let (log, page) = (directory.path().join("old.hlog"), directory.path().join("old.html"));
    for path in [&log, &page] {
        fs::write(path, "older").unwrap();
    }
    let ended = bench(&address, &["--hdr", text(&log), "--report", text(&page)]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(figures(&[text(&log)])["messages"], 300);
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(names(&directory), ["old.hlog", "old.html"]);
}

#[test]
fn the_fields_of_the_report_are_those_of_the_readme() {
    let (_directory, log) = with_log(&["--rate", "10k"]);
    let readme = include_str!("../docs/bench.md");
    for name in figures(&[text(&log)]).as_object().unwrap().keys() {
        assert!(readme.contains(&format!("`{name}`*")), "{name} is not in docs/bench.md");
    }
}

#[test]
fn a_log_that_is_cut_off_is_read_with_a_warning() {
    let (_directory, log) = with_log(&[]);
    let whole = fs::read_to_string(&log).unwrap();
    let lines = whole.lines().count();
    fs::write(&log, format!("{whole}0.5,0.1,1.0,HISTFAAAA")).unwrap();
    let ended = report(&[text(&log)]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let warning = format!("x.hlog: line {} is incomplete, and ignored", lines + 1);
    assert!(ended.stderr.contains(&warning), "{ended:?}");
    let figures = figures(&[text(&log)]);
    assert_eq!(figures["messages"], 300);
    assert!(figures["warnings"][0].as_str().unwrap().ends_with(&warning), "{figures}");
}

#[test]
fn logs_of_open_and_closed_loops_are_not_mixed_in_silence() {
    let ((_first, open), (_second, closed)) = (with_log(&["--rate", "10k"]), with_log(&[]));
    let warnings = figures(&[text(&open), text(&closed)])["warnings"].to_string();
    assert!(warnings.contains("open and closed loops are mixed"), "{warnings}");
    assert!(warnings.contains("overlap"), "they ran one after the other: {warnings}");
}

#[test]
fn tags_of_other_programs_have_rows() {
    let (_directory, log) = with_log(&[]);
    let mut tagged = fs::read_to_string(&log).unwrap();
    // Start, length, longest latency, histogram. On a slow machine the first one may be empty.
    let has_messages = |line: &&str| {
        line.split(',').nth(2).is_some_and(|longest| longest.parse().is_ok_and(|longest: f64| longest > 0.0))
    };
    let interval = tagged.lines().filter(|line| !line.starts_with(['#', 'T'])).find(has_messages).unwrap();
    let interval = interval.to_owned();
    tagged.push_str(&format!("Tag=write,{interval}\nTag=write,{interval}\n"));
    fs::write(&log, tagged).unwrap();
    let figures = figures(&[text(&log)]);
    assert!(figures["tags"]["write"]["count"].as_u64().unwrap() > 0, "{figures}");
    assert!(report(&[text(&log)]).stdout.contains("\nwrite "));
}

#[test]
fn the_page_says_when_where_and_how_it_came_to_be() {
    let (directory, log) = with_log(&[]);
    let page = directory.path().join("page.html");
    let ended = report(&[text(&log), "--report", text(&page), "--note", "server 1.2 <beta>"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let (server, address) = echo_server();
    let of_bench = directory.path().join("bench.html");
    let ended = bench(&address, &["--report", text(&of_bench), "--note", "server 1.2 <beta>"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    server.drain();
    for (page, command) in [(&page, "echoloop report "), (&of_bench, "echoloop bench ")] {
        let page = fs::read_to_string(page).unwrap();
        for part in [
            command,
            "'server 1.2 &lt;beta&gt;'",
            "<td>server 1.2 &lt;beta&gt;</td>",
            "<td>date</td>",
            " UTC</td>",
        ] {
            assert!(page.contains(part), "no {part:?} in the page");
        }
        #[cfg(unix)]
        assert!(page.contains("<td>host</td>"));
    }
    assert!(fs::read_to_string(&page).unwrap().contains("<td>measured</td>"));
}

#[test]
fn the_page_suits_dark_screens_and_narrow_ones() {
    let (directory, log) = with_log(&[]);
    let page = directory.path().join("page.html");
    assert_eq!(report(&[text(&log), "--report", text(&page)]).status.code(), Some(0));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("width=device-width"));
    assert!(page.contains("prefers-color-scheme: dark"));
    // Charts and tables are scrolled by themselves where they do not fit.
    let wide = page.matches("<div class=\"wide\"><svg ").count()
        + page.matches("<div class=\"wide\"><table").count();
    assert_eq!(wide, page.matches("<svg ").count() + page.matches("<table").count());
    assert!(!page.contains("style=\""), "colours are those of the style sheet, which knows the dark");
}

#[cfg(unix)]
mod unix {
    use std::{
        process::{Command, Stdio},
        thread,
    };

    #[cfg(target_os = "linux")]
    use base64::{Engine, prelude::BASE64_STANDARD};
    use util::eventually;

    use super::*;

    /// A program with limits: `script` ends with `exec "$0" "$@"`.
    fn limited(script: &str, args: &[&str]) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_echoloop")]).args(args).stdin(Stdio::null());
        Ended::run(&mut command)
    }

    /// The limit on the size of a file takes the place of a full disk.
    fn on_a_full_disk(address: &str, log: &Path) -> Ended {
        // In units of 512 or 1,024 bytes.
        let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
        // Ten intervals of about 500 bytes in each of two rows.
        let args = ["--rate", "2k", "--duration", "1s", "--warmup", "off", "-c", "5", "--hdr", text(log)];
        limited(script, &[&["bench", address], &args[..]].concat())
    }

    #[test]
    fn a_full_disk_costs_no_figures_and_leaves_a_log_that_can_be_read() {
        let (_server, address) = echo_server();
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("new.hlog");
        let ended = on_a_full_disk(&address, &log);
        let error = ended.error(1);
        assert!(error.starts_with(&format!("cannot write {}: ", log.display())), "{error}");
        assert!(ended.stdout.contains("p99.99"), "{ended:?}");
        assert_eq!(names(&directory), ["new.hlog"]);
        assert!(fs::read_to_string(&log).unwrap().ends_with('\n'));
        let figures = figures(&[text(&log)]);
        assert!(figures["messages"].as_u64().unwrap() > 0, "{figures}");
        assert_eq!(figures["warnings"], Value::Array(Vec::new()));
    }

    #[test]
    fn on_a_full_disk_an_older_log_stays_and_the_new_one_lies_beside_it() {
        let (_server, address) = echo_server();
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("old.hlog");
        fs::write(&log, "older").unwrap();
        let ended = on_a_full_disk(&address, &log);
        assert!(ended.error(1).contains("old.hlog.part"), "{ended:?}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "older");
        assert_eq!(names(&directory), ["old.hlog", "old.hlog.part"]);
        assert!(figures(&[text(&directory.path().join("old.hlog.part"))])["messages"].as_u64().unwrap() > 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn figures_are_shown_though_a_device_is_full() {
        let (_server, address) = echo_server();
        for option in ["--hdr", "--report"] {
            let ended = bench(&address, &[option, "/dev/full"]);
            assert!(ended.error(1).starts_with("cannot write /dev/full: No space left"), "{ended:?}");
            assert!(ended.stdout.contains("messages                         300\n"), "{ended:?}");
        }
    }

    #[test]
    fn pipes_are_written_to_and_not_replaced() {
        let (_server, address) = echo_server();
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (option, begin) in [("--report", "<!DOCTYPE html>"), ("--hdr", "#[echoloop bench ")] {
            let reader = {
                let pipe = pipe.clone();
                thread::spawn(move || fs::read_to_string(pipe).unwrap())
            };
            assert_eq!(bench(&address, &[option, text(&pipe)]).status.code(), Some(0));
            assert!(reader.join().unwrap().starts_with(begin));
        }
        assert_eq!(names(&directory), ["pipe"]);
    }

    #[test]
    fn the_page_can_go_to_stdout_behind_the_table() {
        let (directory, log) = with_log(&[]);
        let all = directory.path().join("all");
        let file = fs::File::create(&all).unwrap();
        let mut command = echoloop(&["report", text(&log), "--report", "/dev/stdout"]);
        assert!(command.stdout(file).status().unwrap().success());
        let all = fs::read_to_string(all).unwrap();
        assert!(all.starts_with("logs  "), "{all}");
        assert!(all.contains("<!DOCTYPE html>") && all.ends_with("</html>\n"));
    }

    #[test]
    fn a_run_that_is_interrupted_before_it_measures_replaces_nothing() {
        let (server, address) = echo_server();
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("old.hlog");
        fs::write(&log, "older").unwrap();
        let mut command = echoloop(&["bench", &address, "--warmup", "1h", "--hdr", text(&log)]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the warm-up has begun", || server.stats().bytes_received > 0);
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "older");
        assert_eq!(names(&directory), ["old.hlog"]);
    }

    /// 128 MiB of addresses, of which the program and its threads take a part.
    #[cfg(target_os = "linux")]
    const LITTLE_MEMORY: &str = "ulimit -v 131072; exec \"$0\" \"$@\"";

    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_that_claims_the_largest_range_and_precision_fits_into_little_memory() {
        // Version 2, one byte of counts, five digits, all values there are: 47 MB of counts in each line.
        let mut histogram = Vec::new();
        [0x1c84_9313_u32, 1, 0, 5].iter().for_each(|number| histogram.extend(number.to_be_bytes()));
        [1, i64::MAX as u64, 1.0_f64.to_bits()]
            .iter()
            .for_each(|number| histogram.extend(number.to_be_bytes()));
        histogram.push(2);
        let histogram = BASE64_STANDARD.encode(histogram);
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("vast.hlog");
        let line = |second: u32| format!("{second}.0,1.0,0.0,{histogram}\n");
        fs::write(&log, (0..300).map(line).collect::<String>()).unwrap();
        let ended = limited(LITTLE_MEMORY, &["report", text(&log), "--format", "json"]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(figures["messages"], 300);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_of_hours_fits_into_little_memory() {
        let (_directory, log) = with_log(&["--rate", "10k"]);
        let short = fs::read_to_string(&log).unwrap();
        let intervals: Vec<(&str, &str)> = short
            .lines()
            .filter(|line| line.contains("HIST"))
            .map(|line| {
                (line.strip_prefix("Tag=").and_then(|line| line.split(',').next()).unwrap_or(""), line)
            })
            .map(|(tag, line)| (tag, line.rsplit_once(',').unwrap().1))
            .collect();
        let histogram = |wanted: &str| intervals.iter().find(|(tag, _)| *tag == wanted).unwrap().1;
        let (plain, uncorrected) = (histogram(""), histogram("uncorrected"));
        let second = |second: u32| {
            format!("{second}.000,1.000,0.0,{plain}\nTag=uncorrected,{second}.000,1.000,0.0,{uncorrected}\n")
        };
        fs::write(&log, (0..2 * 3_600).map(second).collect::<String>()).unwrap();
        let ended = limited(LITTLE_MEMORY, &["report", text(&log), "--format", "json"]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(figures["seconds"], 7_200.0);
        assert!((100..=512).contains(&figures["intervals"].as_array().unwrap().len()));
    }
}
