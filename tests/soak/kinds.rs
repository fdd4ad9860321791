//! The kinds of clients, each with what it does.

use std::{
    io::ErrorKind,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    LINGER_TIMEOUT,
    client::{CHUNK, Client, Ending, is_reset},
    util::eventually,
    workers::Soak,
};

/// Connections of a burst, of which there is one at a time.
const BURST: usize = 100;

/// More than the kernel takes without anyone reading, which is 3 MiB or so, and then the server has to queue.
const LARGE: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SendsThenReads,
    PingsAndPongs,
    ReadsLate,
    ResetsIdle,
    ResetsMidTransfer,
    ClosesAtOnce,
    ClosesUnread,
    SaysNothing,
    DripsBehindFin,
    NeverReads,
    SendsUrgent,
    SendsByteByByte,
    ReadsSlowly,
    TakesSteadily,
    ReadsLateBehindFin,
    Floods,
    Bursts,
}

impl Kind {
    pub(crate) const ALL: [Self; 17] = [
        Self::SendsThenReads,
        Self::PingsAndPongs,
        Self::ReadsLate,
        Self::ResetsIdle,
        Self::ResetsMidTransfer,
        Self::ClosesAtOnce,
        Self::ClosesUnread,
        Self::SaysNothing,
        Self::DripsBehindFin,
        Self::NeverReads,
        Self::SendsUrgent,
        Self::SendsByteByByte,
        Self::ReadsSlowly,
        Self::TakesSteadily,
        Self::ReadsLateBehindFin,
        Self::Floods,
        Self::Bursts,
    ];

    pub(crate) fn run(self, soak: &Soak, rng: &mut Rng) {
        match self {
            Self::SendsThenReads => sends_then_reads(soak, rng),
            Self::PingsAndPongs => pings_and_pongs(soak, rng),
            Self::ReadsLate => reads_late(soak, rng),
            Self::ResetsIdle => resets_idle(soak, rng),
            Self::ResetsMidTransfer => resets_mid_transfer(soak, rng),
            Self::ClosesAtOnce => closes_at_once(soak, rng),
            Self::ClosesUnread => closes_unread(soak, rng),
            Self::SaysNothing => says_nothing(soak, rng),
            Self::DripsBehindFin => drips_behind_fin(soak, rng),
            Self::NeverReads => never_reads(soak, rng),
            Self::SendsUrgent => sends_urgent(soak, rng),
            Self::SendsByteByByte => sends_byte_by_byte(soak, rng),
            Self::ReadsSlowly => reads_slowly(soak, rng),
            Self::TakesSteadily => takes_steadily(soak, rng),
            Self::ReadsLateBehindFin => reads_late_behind_fin(soak, rng),
            Self::Floods => floods(soak, rng),
            Self::Bursts => bursts(soak, rng),
        }
    }
}

/// Small messages are as likely as large ones.
pub(crate) fn size(rng: &mut Rng, max_log2: u32) -> usize {
    let max = 1 << rng.u32(0..=max_log2);
    rng.usize(0..=max)
}

pub(crate) fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

pub(crate) fn pause(time: Duration) {
    let begin = Instant::now();
    while let Some(rest) = time.checked_sub(begin.elapsed()).filter(|rest| !rest.is_zero()) {
        thread::park_timeout(rest);
    }
}

fn sends_then_reads(soak: &Soak, rng: &mut Rng) {
    let (mut client, size) = (Client::connect(soak, rng), size(rng, 23));
    if size <= CHUNK {
        let sent = client.send(size).and_then(|()| client.fin());
        let end = client.read_to_end(|_| {});
        client.expect_whole(size, sent.and(end));
    } else {
        client.transfer(size, || {}, |_| {});
    }
}

fn pings_and_pongs(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let result = (0..rng.usize(10..1000)).try_for_each(|_| client.ping(rng.usize(1..2000)));
    client.finish(result);
}

fn reads_late(soak: &Soak, rng: &mut Rng) {
    let client = Client::connect(soak, rng);
    let late = millis(rng, 100..1000);
    client.transfer(rng.usize(0..=LARGE), || pause(late), |_| {});
}

fn resets_idle(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    if rng.bool() {
        client.ping(rng.usize(1..2000)).unwrap_or_else(|error| client.held_up("ping", &error));
    }
    client.reset();
}

fn resets_mid_transfer(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.send_unread(1 + size(rng, 22), millis(rng, 1..100));
    if rng.bool() {
        client.read_what_came();
    }
    client.reset();
}

fn closes_at_once(soak: &Soak, rng: &mut Rng) {
    Client::connect(soak, rng).close(Ending::Peer);
}

/// A reset if the echo has come by then.
fn closes_unread(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.send_unread(1 + size(rng, 22), millis(rng, 1..100));
    client.close(Ending::PeerOrReset);
}

fn says_nothing(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.see_idle_timeout();
    client.close(Ending::Idle);
}

fn drips_behind_fin(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.see_idle_timeout();
    let begin = Instant::now();
    let mut result = Ok(());
    eventually("the linger timeout", || {
        pause(millis(rng, 5..50));
        result = client.send(1);
        result.is_err()
    });
    let took = begin.elapsed();
    assert!(took >= LINGER_TIMEOUT - Duration::from_millis(500) || client.was_held_up(), "after {took:?}");
    soak.dripped.fetch_add(client.sent, SeqCst);
    client.close(Ending::LingerTimeout);
}

fn never_reads(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.stream.set_nonblocking(true).unwrap();
    let mut all_sent = 0;
    eventually("the write timeout", || {
        let result = client.send(CHUNK);
        all_sent = client.sent;
        assert!(all_sent < 64 << 20, "memory is not bounded: {all_sent} bytes");
        match result {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                assert!(is_reset(&error), "{error}");
                true
            }
            Ok(()) | Err(_) => false,
        }
    });
    client.read_what_came();
    assert!(client.received < all_sent, "all {all_sent} bytes came back, and yet it was reset");
    client.close(Ending::WriteStall);
}

fn sends_urgent(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let result = (0..rng.usize(1..30)).try_for_each(|_| {
        client.ping(rng.usize(0..100))?;
        client.send(rng.usize(0..100))?;
        client.send_urgent()?;
        client.send(rng.usize(0..100))?;
        client.read_to(client.sent)
    });
    client.finish(result);
}

fn sends_byte_by_byte(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let result = (0..rng.usize(1..50)).try_for_each(|_| {
        pause(millis(rng, 0..30));
        client.send(1)?;
        // Sometimes several are under way.
        if rng.bool() { client.read_to(client.sent) } else { Ok(()) }
    });
    client.finish(result);
}

/// The server has to queue, and the end finds it with a queue.
/// Fast enough that some of it goes out within every write timeout.
fn reads_slowly(soak: &Soak, rng: &mut Rng) {
    let client = Client::connect(soak, rng);
    let bytes_per_ms = rng.u64(4_000..16_000);
    let pace = |n: usize| pause(Duration::from_micros(n as u64 * 1000 / bytes_per_ms));
    client.transfer(rng.usize(0..=LARGE), || {}, pace);
}

/// What the server's system takes at once, and a client that takes it steadily only in more than any timeout.
const OWED: std::ops::RangeInclusive<usize> = 300_000..=600_000;

/// The last that its own system holds for it is read in a fraction of a timeout.
const BYTES_PER_MS: u64 = 150;

fn pace(n: usize) {
    pause(Duration::from_micros(n as u64 * 1000 / BYTES_PER_MS));
}

/// Neither idle nor stalled: there is an answer to what it says when it has taken everything.
fn takes_steadily(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.take_little();
    let result = client.send(rng.usize(OWED)).and_then(|()| {
        client.read_to_at(client.sent, pace)?;
        client.ping(rng.usize(1..2000))
    });
    client.finish(result);
}

/// All of it is in the hands of the server's system, with the server's end behind it, and no linger timeout runs.
fn reads_late_behind_fin(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    client.take_little();
    let sent = client.send(rng.usize(OWED)).and_then(|()| client.fin());
    pause(millis(rng, 500..1000));
    let end = sent.and_then(|()| client.read_to_end(pace));
    let sent = client.sent;
    client.expect_whole(sent, end);
}

fn floods(soak: &Soak, rng: &mut Rng) {
    let mut client = Client::connect(soak, rng);
    let (time, begin) = (millis(rng, 200..1500), Instant::now());
    let mut writer = client.writer();
    let mut end = Ok(());
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while begin.elapsed() < time {
                writer.send(CHUNK)?;
            }
            writer.fin()
        });
        end = client.read_to_end(|_| {});
        sender.join().expect("the sender does not panic")
    });
    client.expect_whole(writer.sent, sent.and(end));
}

fn bursts(soak: &Soak, rng: &mut Rng) {
    let Ok(_one_at_a_time) = soak.burst.try_lock() else {
        return closes_at_once(soak, rng);
    };
    let mut clients: Vec<_> = (0..BURST).map(|_| Client::connect(soak, rng)).collect();
    let share = rng.usize(1..=clients.len());
    let rest = clients.split_off(share);
    let sent: Vec<_> = clients.iter_mut().map(|client| client.send(rng.usize(0..4000))).collect();
    for client in rest {
        if rng.bool() { client.reset() } else { client.close(Ending::Peer) }
    }
    for (client, sent) in clients.into_iter().zip(sent) {
        client.finish(sent);
    }
}
