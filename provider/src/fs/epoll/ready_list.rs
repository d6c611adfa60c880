//! The items of an epoll that may be ready, in the order in which they are to be looked at.

use super::Item;
use crate::sync::{Mutex, Rank};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The list. An item is on it once at most, and is taken off it wherever it stands.
#[derive(Debug)]
pub(super) struct ReadyList {
    list: Mutex<List>,
}

/// Items by position; an item keeps its own, so that none is searched for.
#[derive(Debug, Default)]
struct List {
    items: BTreeMap<i64, Arc<Item>>,
}

impl Default for ReadyList {
    fn default() -> Self {
        Self { list: Mutex::new(Rank::EpollReady, List::default()) }
    }
}

impl List {
    /// The positions behind the last and before the first. 2^63 of each are not used up.
    fn ends(&self) -> (i64, i64) {
        let first = self.items.first_key_value().map_or(1, |(position, _)| *position);
        let last = self.items.last_key_value().map_or(0, |(position, _)| *position);
        (first - 1, last + 1)
    }
}

impl ReadyList {
    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.list.lock().items.len()
    }

    /// Adds an item at the end, unless it is there.
    pub(super) fn push(&self, item: &Arc<Item>) {
        let mut list = self.list.lock();
        let (_, behind) = list.ends();
        if item.enlist(behind) {
            list.items.insert(behind, item.clone());
        }
    }

    /// Adds an item at the front, unless it is there.
    pub(super) fn push_front(&self, item: &Arc<Item>) {
        let mut list = self.list.lock();
        let (before, _) = list.ends();
        if item.enlist(before) {
            list.items.insert(before, item.clone());
        }
    }

    /// Takes the first.
    pub(super) fn pop(&self) -> Option<Arc<Item>> {
        let mut list = self.list.lock();
        let (_, item) = list.items.pop_first()?;
        item.delist();
        Some(item)
    }

    /// Takes an item off, if it is there.
    pub(super) fn remove(&self, item: &Item) {
        let mut list = self.list.lock();
        let removed = item.delist().and_then(|position| list.items.remove(&position));
        drop(list);
        drop(removed);
    }
}
