//! Items, in bounded memory. The time is given, never asked for.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::Instant,
};

/// What an item takes besides its key and its value: places in the tables, and what the allocator adds.
const ITEM_BYTES: usize = 200;

pub(crate) struct Item {
    pub(crate) flags: u32,
    pub(crate) value: Box<[u8]>,
    /// Changes whenever the value does, and is larger than those of all items that were stored before.
    pub(crate) version: u64,
    pub(crate) expires: Option<Instant>,
}

/// What there is, within a limit.
#[derive(Default)]
pub(crate) struct Store {
    items: HashMap<Rc<[u8]>, Item>,
    /// Their keys, by version: the one that was stored first is the first.
    order: BTreeMap<u64, Rc<[u8]>>,
    /// What all items take, and may take.
    bytes: usize,
    max_bytes: usize,
    last_version: u64,
    /// Items up to this version are gone.
    flushed_version: u64,
    /// When those that there are then are gone.
    flush: Option<Instant>,
}

impl Store {
    /// An empty store of so many bytes at most.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// What is at `key`, unless it has expired or was flushed.
    pub(crate) fn get(&mut self, key: &[u8], now: Instant) -> Option<&mut Item> {
        if self.flush.take_if(|at| *at <= now).is_some() {
            self.flushed_version = self.last_version;
        }
        let item = self.items.get_mut(key)?;
        let is_live = item.version > self.flushed_version && item.expires.is_none_or(|at| at > now);
        is_live.then_some(item)
    }

    /// Puts an item at `key`. For want of room, those that were stored first are evicted.
    pub(crate) fn put(&mut self, key: &[u8], flags: u32, expires: Option<Instant>, value: &[u8]) {
        self.remove(key);
        self.bytes += size(key, value);
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            self.remove(&Rc::clone(oldest));
        }
        self.last_version += 1;
        let key: Rc<[u8]> = key.into();
        self.order.insert(self.last_version, Rc::clone(&key));
        self.items.insert(key, Item { flags, value: value.into(), version: self.last_version, expires });
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(item) = self.items.remove(key) {
            self.order.remove(&item.version);
            self.bytes -= size(key, &item.value);
        }
    }

    /// From `at` on, what was stored before is gone.
    pub(crate) fn flush(&mut self, at: Instant) {
        self.flush = Some(at);
    }
}

/// What an item counts.
fn size(key: &[u8], value: &[u8]) -> usize {
    ITEM_BYTES + key.len() + value.len()
}
