//! The open loop: hands out messages, or connections, when they are due, whether or not the server keeps up.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Instant,
};

use echoloop::{Address, CloseReason, Context, Input, Protocol, Timeout};

use super::{
    instruction::Instruction,
    wake_up::WakeUp,
    worker::{SharedWorker, Worker},
};
use crate::cli::bench::clock;

/// The label of a pacer's connection. No connection of the load has it.
pub(super) const PACER_LABEL: u64 = u64::MAX;

/// The most messages that are handed out at once, however late it is. The mailbox of a loop has room for more.
const BATCH: usize = 64;

/// The timer that runs out when the next message is due.
const DUE: u64 = 0;

/// Hands out the messages of a worker, on its event loop. Timers belong to connections, so the pacer has one of its own,
/// on which nothing is ever sent.
#[derive(Debug)]
pub(super) struct Pacer {
    worker: SharedWorker,
    /// Each message has a connection of its own.
    churn: bool,
    wake_up: WakeUp,
}

/// What the connection of one pacer leads to: a listener that accepts nobody. The system establishes it all the same.
pub(super) fn listen() -> io::Result<(TcpListener, Address)> {
    let addresses: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
    let listener = TcpListener::bind(&addresses[..])?;
    let address = Address::Ip(listener.local_addr()?);
    Ok((listener, address))
}

impl Pacer {
    pub(super) const fn new(worker: SharedWorker, churn: bool) -> Self {
        Self { worker, churn, wake_up: WakeUp::new() }
    }

    /// Hands out what is due, and waits for what is due next.
    fn pace(&mut self, cx: &mut Context<'_, Instruction>) {
        let now = clock::now();
        self.wake_up.woken(now);
        let mut worker = self.worker.lock();
        for _ in 0..BATCH {
            let Some(due) = worker.take_due(now) else { break };
            hand_out(due, self.churn, &mut worker, cx);
        }
        if let Some(due) = worker.next_due() {
            // With churn that precision would be lost on connecting.
            let wake = if self.churn { due } else { self.wake_up.before(due, now) };
            // If that is now: in the next turn of the loop, so that answers are received in between.
            cx.set_timer(DUE, wake.saturating_duration_since(cx.now()));
        } else {
            worker.note_handed_out();
        }
    }
}

/// Hands out a message that was due then.
fn hand_out(due: Instant, churn: bool, worker: &mut Worker, cx: &mut Context<'_, Instruction>) {
    if churn {
        return worker.want_connection(due);
    }
    let sent = worker.next_in_turn().is_some_and(|id| cx.send(id, Instruction::Send { due }).is_ok());
    if !sent {
        worker.gave_up(due, 1, clock::now());
    }
}

impl Protocol for Pacer {
    type Message = Instruction;

    fn on_open(&mut self, cx: &mut Context<'_, Instruction>) {
        self.worker.lock().pacer_opened(cx.id());
        self.pace(cx);
    }

    fn on_data(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Instruction>) {
        input.take();
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Instruction>) {
        if which == Timeout::Timer(DUE) {
            self.pace(cx);
        }
    }

    fn on_message(&mut self, _pace: Instruction, cx: &mut Context<'_, Instruction>) {
        self.pace(cx);
    }

    fn on_close(&mut self, reason: &CloseReason, _: &mut Context<'_, Instruction>) {
        if *reason != CloseReason::ServerAborted {
            log::error!("the pacer has failed, and no more messages are sent: {reason}");
        }
    }
}
