//! README and the pages of `docs/` say what is true: links lead somewhere, commands run, the code is the code that is
//! there. Rust code in them is tested like that of the documentation.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    fs,
    path::{Path, PathBuf},
};

use echoloop::{Context, Input, Protocol, testing::Loop};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README and all pages, by path.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)).into();
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The lines of the blocks of code in one of these languages.
fn code<'a>(page: &'a str, languages: &[&str]) -> Vec<&'a str> {
    let mut language = None;
    let mut found = Vec::new();
    for line in page.lines() {
        match (line.strip_prefix("```"), language) {
            (Some(begun), None) => language = Some(begun),
            (Some(_), Some(_)) => language = None,
            (None, Some(language)) if languages.contains(&language) => found.push(line),
            (None, _) => {}
        }
    }
    found
}

/// Where the page's links and pictures lead.
fn links(page: &str) -> Vec<&str> {
    let links = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let pictures = page.split("src").skip(1).filter_map(|rest| rest.split_once("=\"")?.1.split_once('"'));
    links.chain(pictures).map(|(target, _)| target).collect()
}

#[test]
fn every_link_leads_to_a_file_that_is_there_and_from_readme_to_every_page() {
    for (path, page) in pages() {
        for target in links(&page) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(file).exists(), "{}: {target} is not there", path.display());
        }
    }
    let pages = pages();
    let from_readme = links(&pages[0].1);
    for (path, _) in &pages[1..] {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        assert!(from_readme.contains(&relative.as_str()), "README does not lead to {relative}");
    }
}

/// `ECHOLOOP_DOCS` is the folder of the documentation that `cargo doc` has made.
#[test]
fn every_link_into_the_documentation_of_the_library_leads_to_an_item() {
    let Ok(made) = std::env::var("ECHOLOOP_DOCS") else {
        return util::skip("ECHOLOOP_DOCS does not say where the documentation is");
    };
    for (path, page) in pages() {
        for target in links(&page) {
            let Some(item) = target.strip_prefix("https://docs.rs/echoloop/latest/echoloop/") else {
                continue;
            };
            let (file, anchor) = item.split_once('#').unwrap_or((item, ""));
            let html = fs::read_to_string(Path::new(&made).join("echoloop").join(file));
            let html = html.unwrap_or_else(|error| panic!("{}: {target}: {error}", path.display()));
            assert!(
                html.contains(&format!("id=\"{anchor}\"")) || anchor.is_empty(),
                "{}: {target}",
                path.display()
            );
        }
    }
}

#[test]
fn readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let words = readme.split_whitespace().count();
    assert!(words <= 1200, "{words} words");
}

#[test]
fn tables_fit_a_page() {
    for (path, page) in pages() {
        for line in page.lines().filter(|line| line.starts_with("| ")) {
            let columns = line.matches(" |").count();
            assert!(columns <= 8, "{}: {columns} columns: {line}", path.display());
        }
    }
}

#[test]
fn the_page_on_benchmarking_has_the_benchmark_that_is_there() {
    let page = fs::read_to_string(root().join("docs/benchmarking.md")).unwrap();
    let bench = fs::read_to_string(root().join("benches/protocol.rs")).unwrap();
    assert!(
        page.contains(bench.trim_end()),
        "the code of docs/benchmarking.md is not that of benches/protocol.rs"
    );
}

/// Whatever `cargo` is told to build, test or run is there.
#[test]
fn cargo_commands_name_what_there_is() {
    for (path, page) in pages() {
        for line in code(&page, &["sh", "console"]) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let file = match *pair {
                    // Not part of the package.
                    ["--manifest-path", "peers/Cargo.toml"] if !root().join("peers").exists() => continue,
                    ["--manifest-path", manifest] => manifest.into(),
                    ["--bench", "'*'"] => continue,
                    ["--bench", name] => format!("benches/{name}.rs"),
                    ["--test" | "--example", name] => {
                        let folder = if pair[0] == "--test" { "tests" } else { "examples" };
                        let alone = format!("{folder}/{name}.rs");
                        if root().join(&alone).exists() { alone } else { format!("{folder}/{name}/main.rs") }
                    }
                    _ => continue,
                };
                assert!(root().join(&file).exists(), "{}: {line}: no {file}", path.display());
            }
        }
    }
}

/// Every `echoloop …` of the pages, against a server of this test, loads for a moment only.
#[cfg(all(feature = "cli", unix))]
#[test]
fn commands_run_as_they_are_written() {
    use std::process::{Command, Stdio};

    let server = util::Program::start(&["serve", "127.0.0.1:0"]);
    let address = server.listening();
    let folder = std::env::temp_dir().join(format!("echoloop-docs-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut ran = 0;
    for (path, page) in pages() {
        for line in code(&page, &["sh", "console"]) {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            if !line.starts_with("echoloop ") || line.starts_with("echoloop serve") {
                continue;
            }
            let program = env!("CARGO_BIN_EXE_echoloop");
            let command = line.replacen("echoloop", program, 1).replace("127.0.0.1:27015", "localhost");
            let command = command.replace("localhost", &address.to_string());
            let (command, comment) = command.split_once('#').unwrap_or((&command, ""));
            let mut command = command.trim_end().replace("--duration 3s", "");
            if command.contains(" bench ") {
                command += " --duration 200ms --warmup 0";
            }
            let ended = Command::new("sh")
                .args(["-c", &command])
                .current_dir(&folder)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{}: {line} ({comment}): {stderr}", path.display());
            ran += 1;
        }
    }
    fs::remove_dir_all(folder).unwrap();
    assert!(ran >= 5, "only {ran} commands");
}

/// What the tutorial's table on the peer's bytes and FIN tells apart.
#[derive(Default)]
struct Told {
    begin: Option<fn(&mut Context<'_>)>,
    bytes: usize,
    has_ended: bool,
}

impl Protocol for Told {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if let Some(begin) = self.begin {
            begin(cx);
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_>) {
        self.bytes += input.take().len();
    }

    fn on_eof(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {
        self.has_ended = true;
    }

    /// A message resumes reading.
    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        cx.resume_reading();
        cx.write(b"resumed");
    }
}

/// What a protocol was told, and whether the connection is open, when the peer has sent 3 bytes and FIN.
#[track_caller]
fn told(begin: fn(&mut Context<'_>), bytes: usize, has_ended: bool, is_open: bool) {
    let net = Loop::new(move |_peer| Some(Told { begin: Some(begin), ..Told::default() }));
    let client = net.connect();
    client.send("abc");
    client.end();
    let seen = client.protocol(|told| (told.bytes, told.has_ended));
    assert_eq!(client.is_open(), is_open);
    if is_open {
        assert_eq!(seen, Some((bytes, has_ended)));
    }
}

#[test]
fn the_tutorials_table_of_pauses_and_ends_is_true() {
    told(|_| {}, 3, true, true);
    told(|cx| cx.pause_reading(), 0, false, true);
    told(
        |cx| {
            cx.pause_reading();
            cx.shutdown_write();
        },
        0,
        false,
        true,
    );
    told(|cx| cx.shutdown_write(), 3, true, false);
    told(|cx| cx.finish(), 0, false, false);
    told(
        |cx| {
            cx.pause_reading();
            cx.finish();
        },
        0,
        false,
        false,
    );
    // What waited comes with the resumption, and the end behind it.
    let net = Loop::new(|_peer| Some(Told { begin: Some(|cx| cx.pause_reading()), ..Told::default() }));
    let client = net.connect();
    client.send("abc");
    client.end();
    assert!(client.message(()));
    assert_eq!(client.protocol(|told| (told.bytes, told.has_ended)), Some((3, true)));
    assert_eq!(client.received(), b"resumed", "it can still write after the peer's end");
}
