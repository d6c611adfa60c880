//! Epolls that watch epolls: no circles, and no long chains.

use super::Epoll;
use crate::errno::Errno;
use crate::sync::{Mutex, MutexGuard, Rank};
use std::sync::Arc;

/// The most links of a chain of epolls (EP_MAX_NESTS).
const MAX_LINKS: u32 = 4;

/// Held from the check to the link, so that two links cannot close a circle between them.
static LINKS: Mutex<()> = Mutex::new(Rank::EpollLinks, ());

/// Checks that `outer` may watch `inner`; the link is made while the guard is held.
pub(super) fn checked(outer: &Epoll, inner: &Epoll) -> Result<MutexGuard<'static, ()>, Errno> {
    let guard = LINKS.lock();
    let below = below(inner, outer, 0)?;
    let above = above(outer, 0)?;
    if below + 1 + above > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(guard) }
}

/// The longest chain of links below an epoll; `ELOOP` if it leads to `target`, or is too long.
fn below(epoll: &Epoll, target: &Epoll, depth: u32) -> Result<u32, Errno> {
    if std::ptr::eq(epoll, target) || depth > MAX_LINKS {
        return Err(Errno::ELOOP);
    }
    let items: Vec<_> = epoll.items.lock().values().cloned().collect();
    let mut longest = 0;
    for item in items {
        if let Some(file) = item.file()
            && let Some(inner) = Epoll::of(&file)
        {
            longest = longest.max(1 + below(inner, target, depth + 1)?);
        }
    }
    Ok(longest)
}

/// The longest chain of links above an epoll.
fn above(epoll: &Epoll, depth: u32) -> Result<u32, Errno> {
    if depth > MAX_LINKS {
        return Err(Errno::ELOOP);
    }
    let outer: Vec<Arc<Epoll>> = {
        let mut watchers = epoll.watchers.lock();
        watchers.retain(|item| item.strong_count() > 0);
        let items: Vec<_> = watchers.iter().filter_map(std::sync::Weak::upgrade).collect();
        drop(watchers);
        items.iter().filter(|item| item.is_watching()).filter_map(|item| item.epoll()).collect()
    };
    let mut longest = 0;
    for outer in outer {
        longest = longest.max(1 + above(&outer, depth + 1)?);
    }
    Ok(longest)
}
