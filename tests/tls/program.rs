//! The program over TLS: `serve`, `client` and `bench`, and what they say when something is wrong.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
};

use echoloop::CloseReason;
use rustls::{
    ServerConfig, ServerConnection, SupportedProtocolVersion,
    pki_types::PrivatePkcs8KeyDer,
    version::{TLS12, TLS13},
};
use serde_json::Value;

use crate::{
    files::{Authority, Pair, Valid},
    peer::{Client, Identity, Version},
    serve::{Serve, client},
    util::{Ended, connect, echoloop, pattern, read_to_end, serve_with},
};

/// Checks that a message came back whole, and that the end was clean.
#[track_caller]
fn succeeds(ended: &Ended) {
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "Bytes sent: 14\nBytes received: 14\nConnection closed\n", "{ended:?}");
    assert_eq!(ended.stderr, "");
}

/// Checks that the error has these words.
#[track_caller]
fn fails(ended: &Ended, words: &str) {
    let error = ended.error(1);
    assert!(error.contains(words), "{error}");
    assert!(!ended.stdout.contains("Connection closed"), "{ended:?}");
}

#[test]
fn a_message_and_a_stream_come_back() {
    let authority = Authority::new();
    let server = Serve::start(&authority.issue("localhost").options());
    succeeds(&server.client(&["--ca", &authority.ca(), "--server-name", "localhost"]));
    let sent = pattern(1, 8 << 20);
    let input = authority.path("input");
    fs::write(&input, &sent).unwrap();
    let mut command = echoloop(&["client", "--tls", "--insecure", &server.address.to_string(), "-"]);
    let output = command.stdin(fs::File::open(&input).unwrap()).output().unwrap();
    assert!(output.status.success() && output.stdout == sent, "{}", output.stdout.len());
    server.ends_with(&[(CloseReason::Peer, 2)]);
}

#[cfg(unix)]
#[test]
fn a_server_with_several_workers_and_a_unix_socket_speaks_tls_everywhere() {
    let authority = Authority::new();
    let pair = authority.issue_as("here", &["localhost", "127.0.0.1"], Valid::Now);
    let path = format!("unix:{}", authority.path("socket"));
    let server = Serve::start(&[&pair.options()[..], &[&path, "--workers", "2"]].concat());
    assert_eq!(server.line(), format!("listening on {path}"));
    for address in [server.address.to_string(), path] {
        succeeds(&client(&address, &["--ca", &authority.ca()]));
    }
    server.ends_with(&[(CloseReason::Peer, 2)]);
}

#[test]
fn a_trial_needs_no_files_and_its_fingerprint_is_that_of_the_certificate() {
    let server = Serve::start(&["--tls-self-signed"]);
    let line = server.line();
    let printed = line.strip_prefix("self-signed certificate, SHA-256 ").unwrap_or_else(|| panic!("{line}"));
    let how = format!("try it with: echoloop client --tls --insecure {}", server.address);
    assert_eq!(server.line(), how);

    let insecure = server.client(&["--insecure"]);
    assert_eq!(insecure.status.code(), Some(0), "{insecure:?}");
    assert!(insecure.stderr.contains(printed), "{insecure:?}");
    fails(&server.client(&[]), "is signed by nobody this machine trusts (--ca FILE or --insecure)");

    // Whoever has the certificate trusts it.
    let der = certificate_of(&server);
    let digest = ring::digest::digest(&ring::digest::SHA256, &der);
    let own: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(printed, own.join(":"));
    server.ends_with(&[(CloseReason::Peer, 2), (CloseReason::HandshakeFailed, 1)]);
}

/// What the server shows to whoever takes everything.
fn certificate_of(server: &Serve) -> Vec<u8> {
    let identity = Identity::new("localhost");
    let mut config = identity.client(Version::Tls13);
    config.dangerous().set_certificate_verifier(Arc::new(TakesAll));
    let mut client = Client::new(server.address, config);
    client.handshake().unwrap();
    let der = client.tls.peer_certificates().unwrap()[0].to_vec();
    client.close_notify();
    assert!(client.read_to_end().unwrap().is_empty());
    der
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let [one, two] = ["one.example", "two.example"].map(|name| authority.issue(name));
    let server = Serve::start(&[one.options(), two.options()].concat());
    let ca = authority.ca();
    let named = |name: &str| server.client(&["--ca", &ca, "--server-name", name]);
    succeeds(&named("one.example"));
    succeeds(&named("two.example"));
    fails(&named("three.example"), "the server's certificate is for one.example, not for three.example");
    server.ends_with(&[(CloseReason::Peer, 2), (CloseReason::HandshakeFailed, 1)]);
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_plain_words() {
    let authority = Authority::new();
    let ca = authority.ca();
    for (valid, words) in [
        (Valid::Before, "the server's certificate expired on 2020-12-31 00:00:00 UTC"),
        (Valid::Later, "the server's certificate is not valid before 2090-01-01 00:00:00 UTC"),
    ] {
        let pair = authority.issue_as("odd", &["localhost"], valid);
        let server = Serve::start(&pair.options());
        let warning = words.strip_prefix("the server's certificate ").unwrap();
        assert!(server.hear("WARN").ends_with(&format!("the certificate in {} {warning}", pair.certificate)));
        fails(&server.client(&["--ca", &ca, "--server-name", "localhost"]), words);
        server.ends_with(&[(CloseReason::HandshakeFailed, 1)]);
    }
    let server = Serve::start(&authority.issue_as("other", &["other.example"], Valid::Now).options());
    fails(
        &client(&format!("localhost:{}", server.address.port()), &["--ca", &ca]),
        "the server's certificate is for other.example, not for localhost (--server-name NAME",
    );
    let stranger = Authority::new();
    fails(&server.client(&["--ca", &stranger.ca(), "--server-name", "other.example"]), "is signed by nobody");
    server.ends_with(&[(CloseReason::HandshakeFailed, 2)]);
}

#[test]
fn a_certificate_that_has_signed_itself_is_trusted_by_who_names_it() {
    let authority = Authority::new();
    for (valid, is_good) in [(Valid::Now, true), (Valid::Before, false)] {
        let pair = authority.self_signed("localhost", valid);
        let server = Serve::start(&pair.options());
        let known = server.client(&["--ca", &pair.certificate, "--server-name", "localhost"]);
        if is_good {
            succeeds(&known);
            let other = server.client(&["--ca", &pair.certificate, "--server-name", "other.example"]);
            fails(&other, "the server's certificate is for localhost, not for other.example");
            fails(&server.client(&["--ca", &authority.ca()]), "is signed by nobody this machine trusts");
        } else {
            fails(&known, "the server's certificate expired on 2020-12-31");
        }
    }
}

#[test]
fn who_does_not_speak_tls_is_said_so() {
    let echoes = serve_with(|client| io::copy(&mut &client, &mut &client).map(drop));
    let talks = serve_with(|mut client| client.write_all(b"220 mail.example ESMTP\r\n"));
    for server in [echoes, talks] {
        fails(
            &client(&server, &["--insecure"]),
            "the server does not speak TLS there (try it without --tls)",
        );
    }
    let ends = serve_with(|client| {
        client.shutdown(Shutdown::Write)?;
        io::copy(&mut &client, &mut io::sink()).map(drop)
    });
    fails(&client(&ends, &["--insecure"]), "the server ended the connection in the TLS handshake");
    // It takes connections into its backlog, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    fails(
        &client(&address, &["--insecure", "--connect-timeout", "200ms"]),
        "the TLS handshake took too long",
    );
}

/// A server that echoes one message over TLS, and ends as it is told.
fn one_echo(
    version: &'static SupportedProtocolVersion,
    end: impl Fn(&mut ServerConnection, &mut TcpStream) + Send + Sync + 'static,
) -> String {
    let Identity(made) = Identity::new("localhost");
    let (certificate, key) =
        (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into());
    let config = ServerConfig::builder_with_protocol_versions(&[version]).with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    serve_with(move |mut socket| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut message = [0; 14];
        rustls::Stream::new(&mut tls, &mut socket).read_exact(&mut message)?;
        rustls::Stream::new(&mut tls, &mut socket).write_all(&message)?;
        end(&mut tls, &mut socket);
        socket.shutdown(Shutdown::Write)?;
        io::copy(&mut socket, &mut io::sink()).map(drop)
    })
}

#[test]
fn an_answer_that_ends_without_close_notify_is_an_error() {
    for version in [&TLS12, &TLS13] {
        let clean = one_echo(version, |tls, socket| {
            tls.send_close_notify();
            tls.complete_io(socket).unwrap();
        });
        let ended = client(&clean, &["--insecure"]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let truncated = one_echo(version, |_, _| {});
        fails(
            &client(&truncated, &["--insecure"]),
            "the server ended the connection without close_notify: 14 of 14 bytes came back",
        );
    }
}

#[test]
fn mutual_tls_takes_those_whom_the_authority_has_signed_and_nobody_else() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ca, server) = (authority.ca(), authority.issue("localhost"));
    let server = Serve::start(&[&server.options()[..], &["--tls-client-ca", &ca]].concat());
    let known = ["--ca", &*ca, "--server-name", "localhost"];
    let as_client = |pair: &Pair| server.client(&[&known[..], &pair.shown()].concat());
    succeeds(&as_client(&authority.issue("client.example")));
    fails(&server.client(&known), "the server requires a client certificate (--cert FILE and --key FILE)");
    let strange = stranger.issue("client.example");
    let nobody =
        "the server refuses the certificate of --cert: it is signed by nobody that the server trusts";
    fails(&as_client(&strange), nobody);
    let mixed = Pair { key: authority.issue("client.example").key, ..strange };
    fails(&as_client(&mixed), &format!("does not belong to the certificate in {}", mixed.certificate));
    server.ends_with(&[(CloseReason::Peer, 1), (CloseReason::HandshakeFailed, 2)]);
}

#[test]
fn a_protocol_is_chosen_that_both_speak() {
    let identity = Authority::new();
    let pair = identity.issue("localhost");
    let server = Serve::start(&[&pair.options()[..], &["--alpn", "h2,http/1.1"]].concat());
    for (alpn, is_refused) in [("http/1.1", false), ("h3,h2", false), ("h3", true)] {
        let ended = server.client(&["--ca", &identity.ca(), "--server-name", "localhost", "--alpn", alpn]);
        if is_refused {
            fails(&ended, "the server speaks none of these protocols");
        } else {
            succeeds(&ended);
        }
    }
    succeeds(&server.client(&["--ca", &identity.ca(), "--server-name", "localhost"]));
    server.ends_with(&[(CloseReason::Peer, 3), (CloseReason::HandshakeFailed, 1)]);
}

/// The alert that whoever does not speak TLS gets, and the end.
#[track_caller]
fn is_turned_away(server: &Serve, words: &[u8]) {
    let mut client = connect(server.address);
    client.write_all(words).unwrap();
    let answer = read_to_end(&client);
    assert!(matches!(*answer, [0x15, 3, _, 0, 2, 2, _]), "{}: {answer:?}", words.escape_ascii());
}

#[test]
fn whoever_does_not_speak_tls_gets_an_alert_and_a_clean_end_and_the_server_goes_on() {
    let authority = Authority::new();
    let server = Serve::start(&authority.issue("localhost").options());
    is_turned_away(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    is_turned_away(&server, b"SSH-2.0-OpenSSH_9.9\r\n");
    is_turned_away(&server, &pattern(1, 100_000));
    // Probes: one that only looks whether somebody listens, one that resets, one that is in the middle of its hello.
    drop(connect(server.address));
    crate::util::reset(connect(server.address));
    let mut half = connect(server.address);
    half.write_all(&[0x16, 3, 1, 1, 0, 1]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    drop(half);
    let plain = Ended::run(&mut echoloop(&["client", &server.address.to_string()]));
    fails(&plain, "(the server speaks TLS: try it with --tls)");
    succeeds(&server.client(&["--ca", &authority.ca(), "--server-name", "localhost"]));
    let stderr = server.ends_with(&[
        (CloseReason::Peer, 1),
        (CloseReason::HandshakeFailed, 4),
        (CloseReason::HandshakeAbandoned, 3),
    ]);
    // Nothing of that is worth a line.
    assert!(stderr.iter().all(|line| line.contains("drain begins")), "{stderr:?}");
}

#[test]
fn who_says_nothing_in_the_handshake_is_not_waited_for_for_ever() {
    let authority = Authority::new();
    let pair = authority.issue("localhost");
    let server = Serve::start(&[&pair.options()[..], &["--handshake-timeout", "100ms"]].concat());
    let silent = connect(server.address);
    assert!((&silent).read_to_end(&mut Vec::new()).is_err(), "it is reset");
    server.ends_with(&[(CloseReason::HandshakeTimeout, 1)]);
}

#[cfg(unix)]
#[test]
fn files_are_read_again_under_load_and_nobody_fails() {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        thread,
    };

    use crate::util::eventually;

    const LOADS: usize = 4;
    let authority = Authority::new();
    let pair = authority.issue("localhost");
    let server = Serve::start(&pair.options());
    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let loads: Vec<_> = (0..LOADS)
        .map(|_| {
            let (over, rounds, address) = (Arc::clone(&over), Arc::clone(&rounds), server.address);
            let config = trusting(&authority.ca());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = Client::new(address, config.clone());
                    client.handshake().unwrap();
                    client.send(b"hello").unwrap();
                    client.close_notify();
                    assert_eq!(client.read_to_end().unwrap(), b"hello");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let some_rounds = || {
        let seen = rounds.load(Ordering::Relaxed);
        eventually("the load goes on", || rounds.load(Ordering::Relaxed) > seen + 10);
    };
    for _ in 0..5 {
        some_rounds();
        let before = certificate_of(&server);
        assert_eq!(certificate_of(&server), before);
        authority.issue("localhost");
        server.signal("HUP");
        server.hear("certificates reloaded");
        assert_ne!(certificate_of(&server), before);
    }
    // A bad pair changes nothing.
    let before = certificate_of(&server);
    let stranger = authority.issue("stranger");
    fs::copy(&stranger.key, &pair.key).unwrap();
    server.signal("HUP");
    let line = server.hear("ERROR");
    let why = format!("does not belong to the certificate in {}", pair.certificate);
    assert!(
        line.contains("TLS: certificates not reloaded, the old ones stay: the key in ")
            && line.ends_with(&why),
        "{line}"
    );
    fs::remove_file(&pair.key).unwrap();
    server.signal("HUP");
    assert!(server.hear("ERROR").contains(&format!("cannot read {}: ", pair.key)));
    some_rounds();
    assert_eq!(certificate_of(&server), before);
    over.store(true, Ordering::Relaxed);
    loads.into_iter().for_each(|load| load.join().unwrap());
    let looks = 3 * 5 + 2;
    let peers = rounds.load(Ordering::Relaxed) + looks;
    server.ends_with(&[(CloseReason::Peer, peers)]);
}

/// A client that trusts who is signed by this.
#[cfg(unix)]
fn trusting(ca: &str) -> rustls::ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

#[test]
fn what_is_wrong_with_files_and_options_is_one_line() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("one.example"), authority.issue("two.example"));
    let empty = authority.write("empty.pem", "nothing\n");
    let broken = authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let secret = authority.write(
        "secret.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = authority.path("missing.pem");
    let serve = |args: &[&str]| Ended::run(&mut echoloop(&[&["serve", "127.0.0.1:0"], args].concat()));
    let pair = |certificate: &str, key: &str| serve(&["--tls-cert", certificate, "--tls-key", key]);
    for (ended, words) in [
        (pair(&missing, &one.key), format!("cannot read {missing}: ")),
        (pair(&one.certificate, &missing), format!("cannot read {missing}: ")),
        (pair(&empty, &one.key), format!("{empty} has no certificate in it (it must be PEM")),
        (pair(&one.key, &one.key), format!("{} has no certificate in it", one.key)),
        (pair(&broken, &one.key), format!("{broken} is no proper PEM file")),
        (pair(&one.certificate, &one.certificate), format!("{} has no private key in it", one.certificate)),
        (pair(&one.certificate, &secret), format!("the key in {secret} is encrypted (openssl pkey")),
        (
            pair(&one.certificate, &two.key),
            format!("the key in {} does not belong to the certificate in {}", two.key, one.certificate),
        ),
        (
            serve(&[&one.options()[..], &["--tls-client-ca", &empty]].concat()),
            format!("{empty} has no certificate in it"),
        ),
    ] {
        fails(&ended, &words);
    }
    for (args, words) in [
        (&["udp:127.0.0.1:0", "--tls-self-signed"][..], "TLS is for streams, and udp:127.0.0.1:0 has none"),
        (&["--tls-client-ca", &empty], "--tls-cert"),
        (&["--alpn", "h2"], "--tls-cert"),
    ] {
        let ended = serve(args);
        let error = ended.error(2);
        assert!(error.contains(words), "{error}");
    }
    for (args, words) in [
        (&["--tls", "udp:127.0.0.1:7"][..], "--tls is for streams, and UDP has none"),
        (&["--insecure"], "--tls"),
        (&["--tls", "--server-name", "not a name"], "it must be a host name or an IP address"),
    ] {
        let ended = Ended::run(&mut echoloop(&[&["client"], args].concat()));
        let error = ended.error(2);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_load_over_tls_says_so_and_what_was_agreed_on() {
    let authority = Authority::new();
    let pair = authority.issue_as("here", &["localhost", "127.0.0.1"], Valid::Now);
    let server = Serve::start(&[&pair.options()[..], &["--alpn", "echo"]].concat());
    let (address, ca) = (server.address.to_string(), authority.ca());
    let bench = |args: &[&str]| {
        let known = ["bench", &address, "--tls", "--ca", &ca, "-n", "200", "-c", "10"];
        Ended::run(&mut echoloop(&[&known[..], args].concat()))
    };
    let figures = |args: &[&str]| -> Value {
        let ended = bench(&[args, &["--format", "json"]].concat());
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), ""), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let plain = figures(&["--alpn", "echo"]);
    assert_eq!((&plain["messages"], &plain["fin"]), (&200.into(), &10.into()), "{plain}");
    let tls = &plain["tls"];
    assert_eq!((&tls["version"], &tls["alpn"]), (&"TLS 1.3".into(), &"echo".into()), "{tls}");
    assert!(tls["cipher_suite"].as_str().unwrap().starts_with("TLS13_"), "{tls}");
    assert_eq!((&tls["full_handshakes"], &tls["resumed_handshakes"]), (&10.into(), &0.into()));

    let full = figures(&["--churn"]);
    assert_eq!(full["tls"]["full_handshakes"], 200, "{full}");
    let resumed = figures(&["--churn", "--tls-resume", "--size", "100000"]);
    let count = |name: &str| resumed["tls"][name].as_u64().unwrap();
    assert_eq!(count("full_handshakes") + count("resumed_handshakes"), 200, "{resumed}");
    assert!(count("resumed_handshakes") >= 150, "{resumed}");

    let page = authority.path("page.html");
    let table = bench(&["--report", &page]).stdout;
    let page = fs::read_to_string(page).unwrap();
    for text in [&table, &page] {
        assert!(text.contains("closed loop over TLS, ") && text.contains("10 full handshakes, 0 resumed"));
    }
    // How many in all: 10 + 200 + 200 + 10.
    server.ends_with(&[(CloseReason::Peer, 420)]);
}

#[test]
fn a_load_counts_answers_without_close_notify_as_truncated() {
    for version in [&TLS12, &TLS13] {
        let truncated = one_echo(version, |_, _| {});
        let args = ["bench", &truncated, "--tls", "--insecure", "--churn", "--size", "14", "-n", "5"];
        let ended = Ended::run(&mut echoloop(&[&args[..], &["-c", "2", "--format", "json"]].concat()));
        assert_eq!(ended.error(1), "5 of 5 connections failed: 5 truncated");
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((&figures["messages"], &figures["tls"]["full_handshakes"]), (&5.into(), &5.into()));
    }
}

#[test]
fn a_load_on_a_server_that_nobody_trusts_says_why_there_is_none() {
    let authority = Authority::new();
    let server = Serve::start(&authority.issue("localhost").options());
    let address = server.address.to_string();
    let ended = Ended::run(&mut echoloop(&["bench", &address, "--tls", "--duration", "1s"]));
    fails(&ended, &format!("cannot connect to {address}: the server's certificate is signed by nobody"));
    let plain = serve_with(|client| io::copy(&mut &client, &mut &client).map(drop));
    let ended = Ended::run(&mut echoloop(&["bench", &plain, "--tls", "--insecure", "--duration", "1s"]));
    fails(&ended, "the TLS handshake failed (`echoloop client --tls` says why)");
    // One that wants a certificate says so when the client's handshake is over.
    let (pair, ca) = (authority.issue("localhost"), authority.ca());
    let server = Serve::start(&[&pair.options()[..], &["--tls-client-ca", &ca]].concat());
    let address = server.address.to_string();
    let args = ["bench", &address, "--tls", "--insecure", "--churn", "-c", "2", "-n", "5"];
    let ended = Ended::run(&mut echoloop(&args));
    fails(&ended, "5 of 5 connections failed: 5 failed (`echoloop client --tls` says why)");
}

/// Takes every certificate.
#[derive(Debug)]
struct TakesAll;

mod takes_all {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    impl ServerCertVerifier for super::TakesAll {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
