//! What the server counted.

/// The server's last line: `N connections, N bytes received, N bytes sent, N bytes undelivered; REASON N, …`.
pub(crate) struct Summary {
    pub(crate) connections: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) undelivered: u64,
    reasons: Vec<(String, u64)>,
}

impl Summary {
    pub(crate) fn parse(line: &str) -> Self {
        let (totals, reasons) = line.split_once("; ").expect("totals; reasons");
        let totals: Vec<u64> =
            totals.split(", ").map(|part| part.split(' ').next().unwrap().parse().unwrap()).collect();
        let reason = |part: &str| {
            let (name, count) = part.rsplit_once(' ').expect("a name and a number");
            (name.to_owned(), count.parse().unwrap())
        };
        let [connections, received, sent, undelivered] = totals[..] else { panic!("four totals in {line}") };
        Self { connections, received, sent, undelivered, reasons: reasons.split(", ").map(reason).collect() }
    }

    /// The numbers of those whose reason's name begins so.
    pub(crate) fn ended<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        self.reasons.iter().filter(move |(reason, _)| reason.starts_with(name)).map(|&(_, count)| count)
    }
}
