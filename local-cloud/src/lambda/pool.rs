//! The environments there are: who is idle, who is busy, and whether there may be one more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::environment::Environment;
use super::{InvokeError, Stats};

/// How long an environment that has answered is waited for before another one is started. It asks for its next event in
/// well under a millisecond; on AWS the answer's way back gives it longer than this.
const FINISHING: Duration = Duration::from_millis(20);

/// The pool.
pub(super) struct Pool {
    /// The most environments at a time.
    limit: usize,
    /// Held for a single change, never across an await.
    books: Mutex<Books>,
    /// Some environment became idle or ended.
    changed: Notify,
}

#[derive(Default)]
struct Books {
    /// The last used is the first to be used again, as on Lambda few environments then stay warm.
    idle: Vec<(Generation, Environment)>,
    busy: usize,
    /// Of the busy ones: answered, but not yet frozen.
    finishing: usize,
    /// Environments of an earlier generation are not used again.
    generation: Generation,
    closed: bool,
    stats: Stats,
}

/// Which recycling an environment was started after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// Where an event goes. The environment counts as busy until [`Pool::release`].
pub(super) enum Slot {
    Warm(Generation, Box<Environment>),
    /// A new environment, and its number.
    Cold(Generation, u64),
}

/// What the books say of the next event.
enum Found {
    Slot(Slot),
    /// An environment is about to be idle; until the patience ends, no other is started.
    WaitBriefly,
    /// An environment is about to be idle, and no other may be started.
    Wait,
    None(InvokeError),
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, books: Mutex::default(), changed: Notify::new() }
    }

    /// An idle environment; else, for a moment, one that is about to be; else a new one; else, when there may be no more, one
    /// that is about to be idle, or none.
    pub(super) async fn slot(&self) -> Result<Slot, InvokeError> {
        let patience = Instant::now() + FINISHING;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the books are read, so that no change between the two is missed.
            changed.as_mut().enable();
            match self.find(Instant::now() < patience) {
                Found::Slot(slot) => return Ok(slot),
                Found::None(error) => return Err(error),
                Found::Wait => changed.await,
                Found::WaitBriefly => drop(timeout_at(patience, changed).await),
            }
        }
    }

    fn find(&self, patient: bool) -> Found {
        let mut books = self.lock();
        if books.closed {
            return Found::None(InvokeError::Stopped);
        }
        while let Some((generation, mut environment)) = books.idle.pop() {
            // One that died while frozen, or whose time is over, is dropped here.
            if environment.is_usable() {
                books.busy += 1;
                return Found::Slot(Slot::Warm(generation, Box::new(environment)));
            }
        }
        match (books.busy < self.limit, books.finishing > 0) {
            (true, true) if patient => Found::WaitBriefly,
            (true, _) => {
                books.busy += 1;
                books.stats.starts += 1;
                Found::Slot(Slot::Cold(books.generation, books.stats.starts))
            }
            (false, true) => Found::Wait,
            (false, false) => {
                books.stats.throttles += 1;
                Found::None(InvokeError::Throttled)
            }
        }
    }

    /// An environment has started.
    pub(super) fn started(&self, init: Duration) {
        let ms = u64::try_from(init.as_millis()).unwrap_or(u64::MAX);
        let mut books = self.lock();
        books.stats.last_init_ms = ms;
        books.stats.max_init_ms = books.stats.max_init_ms.max(ms);
    }

    /// An environment is given an event.
    pub(super) fn invoked(&self) {
        self.lock().stats.invocations += 1;
    }

    /// An environment has answered; the answer's caller may well come back before it is frozen.
    pub(super) fn answered(&self) {
        self.lock().finishing += 1;
    }

    /// Makes a frozen environment idle; one that cannot be used again comes back, still counted as busy.
    pub(super) fn keep(&self, generation: Generation, environment: Box<Environment>) -> Result<(), Box<Environment>> {
        let mut books = self.lock();
        if books.closed || generation != books.generation {
            return Err(environment);
        }
        books.idle.push((generation, *environment));
        drop(books);
        self.release(true);
        Ok(())
    }

    /// Ends a slot; `answered` when its event got as far as an answer.
    pub(super) fn release(&self, answered: bool) {
        let mut books = self.lock();
        books.busy -= 1;
        books.finishing -= usize::from(answered);
        drop(books);
        self.changed.notify_waiters();
    }

    /// Gives up the idle environments, and the busy ones when they are done.
    pub(super) fn recycle(&self) -> Vec<Environment> {
        let mut books = self.lock();
        books.generation.0 += 1;
        books.take_idle()
    }

    /// Gives out no environment any more; the idle ones.
    pub(super) fn close(&self) -> Vec<Environment> {
        let mut books = self.lock();
        books.closed = true;
        books.take_idle()
    }

    /// Waits until no environment is busy.
    pub(super) async fn at_rest(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().busy == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The numbers of this moment.
    pub(super) fn stats(&self) -> Stats {
        let books = self.lock();
        Stats {
            busy: books.busy,
            frozen: books.idle.len(),
            frozen_pids: books.idle.iter().map(|(_, environment)| environment.process_id()).collect(),
            ..books.stats.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn take_idle(&mut self) -> Vec<Environment> {
        self.idle.drain(..).map(|(_, environment)| environment).collect()
    }
}
