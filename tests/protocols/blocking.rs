//! Work that blocks, on threads of its own.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
};

use echoloop::{CloseReason, Config, Context, Input, Protocol};

use crate::{
    ANYWHERE,
    util::{Running, finish, ping},
};

/// Waits for another thread without blocking its loop, or echoes.
struct Patient(Arc<Mutex<Receiver<()>>>);

impl Protocol for Patient {
    type Message = Vec<u8>;

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Vec<u8>>) {
        let wait = Arc::clone(&self.0);
        let taken = match input.take() {
            b"wait" => cx
                .spawn_blocking(move || {
                    wait.lock().unwrap().recv().unwrap();
                    b"done".to_vec()
                })
                .is_ok(),
            b"panic" => cx.spawn_blocking(|| panic!("as the test wants it")).is_ok(),
            other => {
                cx.write(other);
                true
            }
        };
        assert!(taken);
    }

    fn on_message(&mut self, message: Vec<u8>, cx: &mut Context<'_, Vec<u8>>) {
        cx.write(&message);
    }
}

#[test]
fn work_that_blocks_is_done_elsewhere_and_the_loop_goes_on() {
    let (go, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let server = Running::start(Config::default(), ANYWHERE, move |_| Some(Patient(Arc::clone(&wait))));
    let (waits, other) = (server.connect(), server.connect());
    (&waits).write_all(b"wait").unwrap();
    ping(&other, b"served meanwhile");
    go.send(()).unwrap();
    let mut answer = [0; 4];
    (&waits).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"done");
    // That it panics costs this connection only.
    (&waits).write_all(b"panic").unwrap();
    assert!((&waits).read(&mut answer).map_or(true, |n| n == 0));
    assert!(finish(&other).is_empty());
    let stats = server.last_stats();
    assert_eq!(
        (stats.panics, stats.closed(CloseReason::Panicked), stats.closed_total()),
        (1, 1, 2),
        "{stats}"
    );
}
