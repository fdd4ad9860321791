//! What a server has bound to an address.

/// One worker's part of an address: `L` for streams, `D` for datagrams.
#[derive(Debug)]
pub enum Endpoint<L, D> {
    /// Connections are accepted from it.
    Listener(L),
    /// Datagrams are received from these; from none, if other workers have the sockets.
    Datagrams(Vec<D>),
}
