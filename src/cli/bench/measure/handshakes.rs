//! TLS handshakes of a load.

use std::ops::AddAssign;

use echoloop::TlsInfo;
use indicatif::HumanCount;
use serde::Serialize;

/// What was agreed on, and how often. The names are those of the JSON report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Handshakes {
    /// Of the first one.
    version: &'static str,
    cipher_suite: &'static str,
    alpn: Option<String>,
    full_handshakes: u64,
    resumed_handshakes: u64,
}

impl Handshakes {
    pub(crate) fn count(&mut self, info: &TlsInfo) {
        if self.total() == 0 {
            self.version = info.version;
            self.cipher_suite = info.cipher_suite;
            self.alpn = info.alpn.as_ref().map(|name| name.escape_ascii().to_string());
        }
        if info.is_resumed {
            self.resumed_handshakes += 1;
        } else {
            self.full_handshakes += 1;
        }
    }

    const fn total(&self) -> u64 {
        self.full_handshakes + self.resumed_handshakes
    }

    /// In words, such as `TLS 1.3, TLS13_AES_128_GCM_SHA256, 50 full handshakes, 0 resumed`.
    pub(crate) fn summary(&self) -> String {
        let (full, resumed) = (HumanCount(self.full_handshakes), HumanCount(self.resumed_handshakes));
        let alpn = self.alpn.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        let counts = format!("{full} full handshakes, {resumed} resumed");
        if self.total() == 0 {
            counts
        } else {
            format!("{}, {}{alpn}, {counts}", self.version, self.cipher_suite)
        }
    }
}

impl AddAssign<&Self> for Handshakes {
    fn add_assign(&mut self, more: &Self) {
        if self.total() == 0 {
            self.clone_from(more);
        } else {
            self.full_handshakes += more.full_handshakes;
            self.resumed_handshakes += more.resumed_handshakes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_add_up_and_are_said_in_words() {
        let mut info = TlsInfo::default();
        (info.version, info.cipher_suite) = ("TLS 1.2", "SOME_SUITE");
        let (mut none, mut some) = (Handshakes::default(), Handshakes::default());
        some.count(&info);
        info.is_resumed = true;
        (0..1_000).for_each(|_| some.count(&info));
        assert_eq!(none.summary(), "0 full handshakes, 0 resumed");
        none += &some;
        assert_eq!(none, some);
        none += &some;
        assert_eq!(none.summary(), "TLS 1.2, SOME_SUITE, 2 full handshakes, 2,000 resumed");
    }
}
