//! No message from another thread is slept through.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod util;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use echoloop::{Config, ConnectionId, Context, Input, Protocol};
use util::{Running, eventually};

/// Notes how many messages have come.
struct Counts {
    come: Arc<AtomicU64>,
    id: Arc<Mutex<Option<ConnectionId>>>,
}

impl Protocol for Counts {
    type Message = ();

    fn on_open(&mut self, cx: &mut Context<'_>) {
        *self.id.lock().unwrap() = Some(cx.id());
    }

    fn on_data(&mut self, _: &mut Input<'_>, _: &mut Context<'_>) {}

    fn on_message(&mut self, (): (), _: &mut Context<'_>) {
        self.come.fetch_add(1, SeqCst);
    }
}

const MESSAGES: u64 = 20_000;

/// Far more than one takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Each is sent as soon as the one before was received: while the loop looks whether there are more, and goes to sleep.
#[test]
fn a_message_that_comes_while_the_loop_goes_to_sleep_wakes_it() {
    let (come, id) = (Arc::<AtomicU64>::default(), Arc::default());
    let server = {
        let (come, id) = (Arc::clone(&come), Arc::clone(&id));
        Running::start(Config::default(), &["127.0.0.1:0"], move |_| {
            Some(Counts { come: Arc::clone(&come), id: Arc::clone(&id) })
        })
    };
    let _client = server.connect();
    eventually("the connection is open", || id.lock().unwrap().is_some());
    let id = id.lock().unwrap().unwrap();
    for n in 0..MESSAGES {
        // The first few after each are sent a little later each time.
        for _ in 0..n % 64 {
            std::hint::spin_loop();
        }
        server.handle.send(id, ()).unwrap();
        let begin = Instant::now();
        while come.load(SeqCst) <= n {
            assert!(begin.elapsed() < DEADLINE, "message {n} is slept through");
            if begin.elapsed().as_micros() > 100 {
                thread::yield_now();
            }
        }
    }
}
