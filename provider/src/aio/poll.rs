//! Requests that wait for a file to become ready (IOCB_CMD_POLL).
//!
//! Changes come with locks held, so they are only noted; the timers' thread looks at the file and completes the request.

use super::{Context, Event, Waiting};
use crate::errno::Errno;
use crate::fs::link::Link;
use crate::fs::{OpenFile, Ready};
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::{CurrentTask, Observer, Share};
use crate::time::{Expiry, TimerKey};
use std::sync::{Arc, Weak};
use std::time::Instant;
use vmm::addr::UserAddr;

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Poll {
    me: Weak<Poll>,
    kernel: Weak<Kernel>,
    context: Weak<Context>,
    key: TimerKey,
    file: Arc<OpenFile>,
    interest: Ready,
    event: Event,
    tell: Option<Arc<OpenFile>>,
    /// How it learns of changes; `None` before that is arranged and once it is done.
    link: Mutex<Option<Link>>,
}

impl Poll {
    /// Waits for a file, in a context with room for the event. A file that never changes is ready at once.
    pub(crate) fn start(
        task: &CurrentTask<'_>,
        context: &Arc<Context>,
        file: Arc<OpenFile>,
        interest: Ready,
        event: Event,
        tell: Option<Arc<OpenFile>>,
    ) -> Result<(), Errno> {
        let kernel = task.kernel();
        let poll = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kernel: Arc::downgrade(kernel),
            context: Arc::downgrade(context),
            key: kernel.timers().new_key(),
            file,
            interest: interest | Ready::ERR | Ready::HUP,
            event,
            tell,
            link: Mutex::new(Rank::EpollItem, None),
        });
        match Link::new(kernel, &poll.file, poll.me.clone(), Share::Common) {
            Ok(link) => *poll.link.lock() = Some(link),
            Err(Errno::EPERM) => {}
            Err(error) => return Err(error),
        }
        context.keep(poll.clone());
        poll.look(context);
        Ok(())
    }

    /// Completes it if the file is ready.
    fn look(&self, context: &Context) {
        let ready = self.file.file().ready() & self.interest;
        if !ready.is_empty() {
            self.finish(context, ready);
        }
    }
}

impl Waiting for Poll {
    fn request(&self) -> UserAddr {
        UserAddr(self.event.request)
    }

    fn finish(&self, context: &Context, ready: Ready) -> bool {
        if !context.take_waiting(self) {
            return false;
        }
        let link = self.link.lock().take();
        drop(link);
        context.complete(Event { result: ready.bits().into(), ..self.event }, self.tell.as_deref());
        true
    }
}

impl Observer for Poll {
    fn notify(&self, ready: Ready) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        if !ready.intersects(self.interest) {
            return false;
        }
        let target: Weak<Self> = self.me.clone();
        kernel.timers().set(self.key, Some(Instant::now()), target);
        true
    }
}

impl Expiry for Poll {
    fn expired(&self, _now: Instant) -> Option<Instant> {
        if let Some(context) = self.context.upgrade() {
            self.look(&context);
        }
        None
    }
}
