//! What a connection of an event loop is there for.

use echoloop::{CloseReason, Context, Input, Protocol, Timeout};

use super::{instruction::Instruction, pacer::Pacer, protocol::LoadConnection};

/// What a connection of an event loop is there for.
#[derive(Debug)]
pub(super) enum Role {
    Load(LoadConnection),
    Pacer(Pacer),
}

impl Protocol for Role {
    type Message = Instruction;

    fn on_open(&mut self, cx: &mut Context<'_, Instruction>) {
        match self {
            Self::Load(connection) => connection.on_open(cx),
            Self::Pacer(pacer) => pacer.on_open(cx),
        }
    }

    fn on_data(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Instruction>) {
        match self {
            Self::Load(connection) => connection.on_data(input, cx),
            Self::Pacer(pacer) => pacer.on_data(input, cx),
        }
    }

    fn on_eof(&mut self, rest: &mut Input<'_>, cx: &mut Context<'_, Instruction>) {
        match self {
            Self::Load(connection) => connection.on_eof(rest, cx),
            Self::Pacer(pacer) => pacer.on_eof(rest, cx),
        }
    }

    fn on_timeout(&mut self, which: Timeout, cx: &mut Context<'_, Instruction>) {
        match self {
            Self::Load(connection) => connection.on_timeout(which, cx),
            Self::Pacer(pacer) => pacer.on_timeout(which, cx),
        }
    }

    fn on_message(&mut self, instruction: Instruction, cx: &mut Context<'_, Instruction>) {
        match self {
            Self::Load(connection) => connection.on_message(instruction, cx),
            Self::Pacer(pacer) => pacer.on_message(instruction, cx),
        }
    }

    fn on_close(&mut self, reason: &CloseReason, cx: &mut Context<'_, Instruction>) {
        match self {
            Self::Load(connection) => connection.on_close(reason, cx),
            Self::Pacer(pacer) => pacer.on_close(reason, cx),
        }
    }
}
