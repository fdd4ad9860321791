//! What protocols can do, in the test kit, from the public interface alone.

mod borrowing;
mod connecting;
mod cuts;
mod ends;
mod handle;
mod idling;
mod layers;
mod memory;
mod output;
mod prestop;
mod proxied;
mod tls;
