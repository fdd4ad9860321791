//! What a server has bound to an address.

/// One worker's socket on an address: `L` for streams, `D` for datagrams.
#[derive(Debug)]
pub enum Endpoint<L, D> {
    /// Connections are accepted from it.
    Listener(L),
    /// Datagrams are received from it.
    Datagrams(D),
    /// Another worker has the only socket.
    Elsewhere,
}
