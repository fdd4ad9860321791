//! Keys, their values, and when they expire. Times are given, never asked for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

/// The error of a write for which there is no room.
const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// What an entry takes besides its key and its value: places in the tables, and what the allocator adds.
const ENTRY_BYTES: usize = 160;

/// How many keys that have expired are removed at each command, which lets one key expire at most.
const SWEEP: usize = 2;

/// What there is, within a limit.
#[derive(Debug)]
pub(crate) struct Store {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// The keys that expire, the first to do so first.
    expiries: BTreeSet<(Instant, Arc<[u8]>)>,
    used: usize,
    limit: usize,
}

/// A value, and when it ceases to be.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) value: Box<[u8]>,
    pub(crate) expires: Option<Instant>,
}

impl Store {
    /// An empty store of `limit` bytes at most.
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), expiries: BTreeSet::new(), used: 0, limit }
    }

    /// What is at `key`. What has expired is not there, even if it has not been removed yet.
    pub(crate) fn get(&self, key: &[u8], now: Instant) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires.is_none_or(|at| at > now))
    }

    /// Puts values at their keys: all, or none if there is no room for them beside what they replace.
    pub(crate) fn set<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
        expires: Option<Instant>,
        now: Instant,
    ) -> Result<(), &'static str> {
        let needed: usize = pairs.clone().map(|(key, value)| size(key, value)).sum();
        while self.used + needed > self.limit {
            if !self.remove_expired(now) {
                return Err(FULL);
            }
        }
        for (key, value) in pairs {
            let known = self.take(key).map(|(key, _)| key);
            self.put(known.unwrap_or_else(|| key.into()), Entry { value: value.into(), expires });
        }
        Ok(())
    }

    /// Whether there was such a key.
    pub(crate) fn remove(&mut self, key: &[u8], now: Instant) -> bool {
        let was_there = self.get(key, now).is_some();
        self.take(key);
        was_there
    }

    /// Lets `key` expire at `at`, if there is such a key.
    pub(crate) fn expire(&mut self, key: &[u8], at: Instant, now: Instant) -> bool {
        let is_there = self.get(key, now).is_some();
        if let Some((key, entry)) = self.take(key).filter(|_| is_there) {
            self.put(key, Entry { expires: Some(at), ..entry });
        }
        is_there
    }

    /// Removes a few of the keys that have expired.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            self.remove_expired(now);
        }
    }

    /// The bytes that are taken, and how many may be.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.used, self.limit)
    }

    /// Removes the key that has expired first, if there is one.
    fn remove_expired(&mut self, now: Instant) -> bool {
        let first = self.expiries.first().filter(|(at, _)| *at <= now).cloned();
        first.is_some_and(|(_, key)| self.take(&key).is_some())
    }

    fn put(&mut self, key: Arc<[u8]>, entry: Entry) {
        self.used += size(&key, &entry.value);
        self.expiries.extend(entry.expires.map(|at| (at, Arc::clone(&key))));
        self.entries.insert(key, entry);
    }

    fn take(&mut self, key: &[u8]) -> Option<(Arc<[u8]>, Entry)> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.used -= size(&key, &entry.value);
        if let Some(at) = entry.expires {
            self.expiries.remove(&(at, Arc::clone(&key)));
        }
        Some((key, entry))
    }
}

/// What an entry counts.
fn size(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}
