//! `rfc` against nc, socat and date.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    process::Command,
};

use super::{
    filter, is_installed, netcat,
    util::{Ended, Program, connect, example, pattern, ping, read_to_end},
};

/// What chargen sends first, as the RFC has it. After 95 lines it is the same again.
const FIRST_LINES: &str = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r
!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r
\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghi\r
";

/// The bytes of 95 lines.
const PERIOD: usize = 95 * 74;

/// The example on free ports, and where its services listen.
struct Services {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "it is stopped when this is dropped"))]
    program: Program,
    echo: SocketAddr,
    discard: SocketAddr,
    daytime: SocketAddr,
    quote: SocketAddr,
    chargen: SocketAddr,
    time: SocketAddr,
}

impl Services {
    fn start() -> Self {
        let program = Program::spawn(example("rfc", &["127.0.0.1", "any"]));
        let [echo, discard, daytime, quote, chargen, time] = [(); 6].map(|()| program.listening());
        Self { program, echo, discard, daytime, quote, chargen, time }
    }
}

/// What nc receives until the server ends, after it has sent `input` and its FIN. `None` without a suitable nc.
#[track_caller]
fn nc(address: SocketAddr, input: &[u8]) -> Option<Vec<u8>> {
    netcat(address).map(|nc| filter(nc, input))
}

/// What `date -u` says in this form.
#[track_caller]
fn date(form: &str) -> String {
    let output = Command::new("date").args(["-u", form]).output().expect("date");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

#[test]
fn echo_returns_a_mebibyte_to_nc_and_to_socat() {
    let services = Services::start();
    let sent = pattern(862, 1 << 20);
    if let Some(echo) = nc(services.echo, &sent) {
        assert!(echo == sent, "nc got something else back");
    }
    if !is_installed("socat") {
        return;
    }
    let mut socat = Command::new("socat");
    socat.args(["-t", "60", "STDIO", &format!("TCP:{}", services.echo)]);
    assert!(filter(socat, &sent) == sent, "socat got something else back");
}

#[test]
fn discard_takes_everything_and_answers_with_nothing() {
    let services = Services::start();
    let Some(answer) = nc(services.discard, &pattern(863, 1 << 20)) else { return };
    assert_eq!(answer, b"");
}

#[test]
fn daytime_is_the_time_of_date() {
    let services = Services::start();
    let form = "+%Y-%m-%dT%H:%M:%SZ";
    let before = date(form);
    let Some(daytime) = nc(services.daytime, b"") else { return };
    let daytime = String::from_utf8(daytime).expect("text");
    let after = date(form);
    let line = daytime.strip_suffix("\r\n").expect("one line");
    assert!((&*before..=&*after).contains(&line), "{before} {line} {after}");
}

#[test]
fn time_is_that_of_date_since_1900() {
    let services = Services::start();
    let since_1900 = || (date("+%s").parse::<u64>().expect("a number") + 2_208_988_800) % (1 << 32);
    let before = since_1900();
    let Some(time) = nc(services.time, b"") else { return };
    let time = time.try_into().expect("four bytes");
    let after = since_1900();
    let time = u64::from(u32::from_be_bytes(time));
    assert!((before..=after).contains(&time), "{before} {time} {after}");
}

#[test]
fn the_quote_has_less_than_512_printable_characters() {
    let services = Services::start();
    let Some(quote) = nc(services.quote, b"") else { return };
    assert!((1..512).contains(&quote.len()));
    assert!(quote.iter().all(|b| matches!(b, b' '..=b'~' | b'\r' | b'\n')));
}

#[test]
fn a_client_that_sends_what_nobody_wants_gets_the_whole_answer() {
    let services = Services::start();
    for (address, length) in [(services.time, 4), (services.daytime, 22)] {
        let mut client = connect(address);
        client.write_all(&pattern(868, 1 << 20)).expect("it is received and discarded");
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(read_to_end(&client).len(), length);
    }
}

#[test]
fn chargen_sends_socat_the_lines_of_the_rfc() {
    if !is_installed("socat") {
        return;
    }
    let services = Services::start();
    let mut head = Command::new("sh");
    head.arg("-c").arg("socat -u \"TCP:$0\" STDOUT 2>/dev/null | head -c 10000000");
    head.arg(services.chargen.to_string());
    let lines = filter(head, b"");
    assert_eq!(lines.len(), 10_000_000);
    assert!(lines.starts_with(FIRST_LINES.as_bytes()));
    assert!(lines[PERIOD..] == lines[..lines.len() - PERIOD], "the lines do not repeat");
    for line in lines[..PERIOD].chunks(74) {
        assert_eq!(&line[72..], b"\r\n");
        for pair in line[..72].windows(2) {
            assert!(pair[1] == pair[0] + 1 || (pair == b"~ "), "{pair:?}");
        }
    }
}

/// It would not end as long as the loop only writes to a client that receives so fast.
#[test]
fn chargen_ends_when_a_client_that_goes_on_receiving_has_ended() {
    let services = Services::start();
    let mut client = connect(services.chargen);
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..16 {
        client.read_exact(&mut bytes).expect("more lines");
    }
    client.write_all(b"input is discarded").expect("write");
    client.shutdown(Shutdown::Write).expect("shutdown");
    let under_way = 64 << 20;
    let read = std::io::copy(&mut client.take(under_way), &mut std::io::sink()).expect("a clean end");
    assert!(read < under_way, "it goes on for {read} bytes");
}

#[cfg(target_os = "linux")]
#[test]
fn clients_of_chargen_that_do_not_read_cost_little_memory() {
    use super::util::procfs::{resident_bytes, wait_until_asleep};

    let services = Services::start();
    let pid = services.program.child.id();
    ping(&connect(services.echo), b"the first");
    let before = resident_bytes(pid);
    let clients: Vec<_> = (0..64).map(|_| connect(services.chargen)).collect();
    for client in &clients {
        client.peek(&mut [0]).expect("the first character");
    }
    wait_until_asleep(pid);
    // The high-water mark, and a write beyond it.
    let limit = clients.len() as u64 * (72 << 10) + (4 << 20);
    let after = resident_bytes(pid);
    assert!(after < before + limit, "{before} bytes became {after}");
    // They are served on where they stopped.
    let mut bytes = vec![0; 16 << 20];
    (&clients[0]).read_exact(&mut bytes).expect("more lines");
    assert!(bytes[PERIOD..] == bytes[..bytes.len() - PERIOD], "the lines do not repeat");
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_in_one_line() {
    for (args, error) in [
        (["localhost", "any"], "'localhost' is not an IP address"),
        (["127.0.0.1", "often"], "'often' is neither `any` nor a port"),
        (["127.0.0.1", "65500"], "there are no such ports"),
    ] {
        assert_eq!(Ended::run(&mut example("rfc", &args)).error(1), error);
    }
    assert_eq!(Ended::run(&mut example("rfc", &[])).status.code(), Some(2));
}
